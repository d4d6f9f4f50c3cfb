//! A second database on the server, with clients that come and go all the time, so that sessions of both databases take
//! each other's places. It is dropped and made again while they work.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::{Client, Error};

use crate::calls::{Calls, ack_ids, millis, seconds};
use crate::others::Done;
use sequin_testkit::cluster::{Cluster, wait_until};

const NAME: &str = "torture_neighbour";

/// Makes it anew: whoever works in it loses it.
pub fn make(cluster: &Cluster) {
    const PATIENCE: Duration = seconds(60);
    let made = || -> Result<(), Error> {
        let mut admin = cluster.try_connect("postgres")?;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {NAME} WITH (FORCE)"))?;
        admin.batch_execute(&format!("CREATE DATABASE {NAME} TEMPLATE template0"))?;
        let mut client = cluster.try_connect(NAME)?;
        client.batch_execute(
            "CREATE EXTENSION sequin;
             CREATE TABLE effect (seq bigint);
             SELECT sequin.create_stream('s');
             SELECT sequin.create_consumer('s', 'c', ack_wait => '2 s')",
        )
    };
    // A session that is just starting can be in the way of DROP DATABASE.
    wait_until("the neighbour is made", PATIENCE, || made().is_ok());
}

/// Sessions of a few transactions each.
pub fn work(cluster: &Cluster, done: &Done, rng: &mut Rng) {
    while !done.is_set() {
        let Ok(mut client) = cluster.try_connect(NAME) else {
            thread::sleep(millis(20));
            continue;
        };
        for _ in 0..rng.u8(1..4) {
            if done.is_set() || step(&mut client, rng).is_err() {
                break;
            }
        }
    }
}

fn step(client: &mut Client, rng: &mut Rng) -> Result<(), Error> {
    client.try_publish("s", &format!("k.{}", rng.u8(0..50)), "1")?;
    let mut transaction = client.transaction()?;
    let held = transaction.try_receive("c", rng.i32(1..5), millis(rng.u64(0..100)))?;
    for delivery in &held {
        transaction.execute("INSERT INTO effect VALUES ($1)", &[&delivery.seq])?;
    }
    match rng.u8(0..4) {
        0 => transaction.rollback(),
        _ if transaction.try_ack("c", &ack_ids(&held))? as usize != held.len() => {
            transaction.rollback()
        }
        _ => transaction.commit(),
    }
}

/// Each message of the last one that was made has been processed once.
pub fn judge(cluster: &Cluster) {
    let mut client = cluster.connect(NAME);
    let left = client.drain("c", millis(2500));
    for delivery in left {
        client.execute("INSERT INTO effect VALUES ($1)", &[&delivery.seq]).unwrap();
    }
    let wrong = "SELECT count(*) FROM (SELECT seq FROM sequin_stream.s) s
                 FULL JOIN (SELECT seq, count(*) FROM effect GROUP BY seq) e USING (seq)
                 WHERE e.count IS DISTINCT FROM 1 OR s.seq IS NULL";
    assert_eq!(client.number(wrong), 0, "messages of the second database were lost or came twice");
}
