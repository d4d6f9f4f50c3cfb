//! After a crash nothing acked comes back, and nothing unacked is lost.

use std::collections::HashSet;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};
use sequin_testkit::process::signal;

pub fn tests() -> Vec<Trial> {
    trials![
        acks_and_messages_outlive_kill_9_of_the_server,
        acks_and_messages_outlive_an_immediate_stop,
        acks_and_messages_outlive_kill_9_of_a_backend,
        acks_and_messages_outlive_kill_9_of_the_dispatcher,
        ack_ids_are_never_used_again,
    ]
}

fn acks_and_messages_outlive_kill_9_of_the_server() {
    outlive(|cluster, _, _| {
        cluster.kill_9();
        cluster.boot();
    });
}

fn acks_and_messages_outlive_an_immediate_stop() {
    outlive(|cluster, _, _| {
        cluster.stop(Stop::Immediate);
        cluster.boot();
    });
}

/// The postmaster then ends all other processes, and starts anew in the same shared memory.
fn acks_and_messages_outlive_kill_9_of_a_backend() {
    outlive(|cluster, _, client| {
        let pid = client.backend_pid();
        kill_and_wait(cluster, client, pid);
    });
}

fn acks_and_messages_outlive_kill_9_of_the_dispatcher() {
    outlive(|cluster, database, client| {
        let find = "SELECT pid FROM sequin.workers
                    WHERE process = 'dispatcher' AND database = $1 AND pid IS NOT NULL";
        let pid: i32 = client.query_one(find, &[&database.name]).unwrap().get(0);
        kill_and_wait(cluster, client, pid);
    });
}

fn kill_and_wait(cluster: &Cluster, client: &mut Client, pid: i32) {
    let mut bystander = cluster.connect("postgres");
    signal("KILL", &[pid as u32]);
    wait_until("the postmaster has ended all", seconds(30), || {
        bystander.batch_execute("SELECT 1").is_err() && client.batch_execute("SELECT 1").is_err()
    });
    wait_until("the server is back", seconds(30), || cluster.try_connect("postgres").is_ok());
}

/// Three crashes; each time some messages are acked, some in flight, some not yet received, some being published.
fn outlive(crash: impl Fn(&Cluster, &Database, &mut Client)) {
    let cluster = Cluster::start();
    let database = cluster.database("outlive");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '1 s'");
    let mut acked: HashSet<i64> = HashSet::new();
    for round in 0..3 {
        client.publish_numbers("s", 1000, 100);
        let mut other = database.connect();
        other.batch_execute("BEGIN").unwrap();
        other.publish("s", "uncommitted", "0");
        for batch in 1..=40 {
            let held = client.receive("c", 10, seconds(10));
            for delivery in &held {
                assert!(!acked.contains(&delivery.seq), "round {round}: {delivery:?} was acked");
            }
            if batch % 3 == 0 {
                continue; // in flight, when the server crashes
            }
            assert_eq!(client.ack("c", &ack_ids(&held)), held.len() as i32);
            acked.extend(seqs(&held));
        }
        crash(&cluster, &database, &mut client);
        drop(other);
        client = database.connect();
    }
    // What is in flight comes after its ack_wait at the latest, and draining waits longer than that.
    let rest = client.drain("c", millis(1500));
    for delivery in &rest {
        assert!(acked.insert(delivery.seq), "acked, and came back: {delivery:?}");
    }
    let published = client.query("SELECT seq FROM sequin_stream.s", &[]).unwrap();
    let published: HashSet<i64> = published.iter().map(|row| row.get(0)).collect();
    assert_eq!(published.len(), 3000, "a committed message is gone, or an uncommitted one came");
    let lost: Vec<_> = published.difference(&acked).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

fn ack_ids_are_never_used_again() {
    let cluster = Cluster::start();
    let database = cluster.database("ack_ids");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", 5, 5);
    let mut used = HashSet::new();
    for round in 0..6 {
        // Void the deliveries of the round before, so that all come again.
        client.batch_execute("SELECT sequin.rewind('c')").unwrap();
        let held = client.receive("c", 5, seconds(10));
        assert_eq!(held.len(), 5);
        for ack_id in ack_ids(&held) {
            assert!(used.insert(ack_id), "ack_id {ack_id} was used before, round {round}");
        }
        if round % 2 == 0 {
            cluster.kill_9();
            cluster.boot();
        } else {
            cluster.restart();
        }
        client = database.connect();
    }
    client.batch_execute("SELECT sequin.rewind('c')").unwrap();
    let all: Vec<i64> = used.into_iter().collect();
    let current = client.drain("c", millis(200));
    assert!(current.iter().all(|delivery| !all.contains(&delivery.ack_id)), "{current:?}");
    assert_eq!(client.ack("c", &all), 0);
}
