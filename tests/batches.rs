//! Batches as large as they can be, of messages whose seqs are as far apart as they can be: what has no room in a session's
//! entry goes in parts, and nothing is lost between them.

use libtest_mimic::Trial;

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        a_thousand_messages_are_received_and_acked_at_once,
        messages_that_are_far_apart_are_all_received_and_acked,
    ]
}

const LEASE: &str = "ack_wait => '1 h'";

fn a_thousand_messages_are_received_and_acked_at_once() {
    let database = database("batches_full");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", LEASE);
    publish_apart(&mut client, 1000, 100_000);
    // By as many reads as it takes; then the dispatcher has them.
    let first = receive_all(&mut client);
    assert_eq!(client.nack("c", &ack_ids(&first)), 1000);
    let again = other.receive("c", 1000, seconds(10));
    assert_eq!(seqs(&again), seqs(&first));
    assert!(again.iter().all(|delivery| delivery.deliver_count == 2));
    // Without asking, and then by asking.
    assert_eq!(other.ack("c", &ack_ids(&again[..500])), 500);
    assert_eq!(client.ack("c", &ack_ids(&again)), 500);
    assert_eq!(client.number("SELECT count(*) FROM sequin.acks"), 2);
    assert_eq!(client.in_flight("c"), 0);
}

fn messages_that_are_far_apart_are_all_received_and_acked() {
    const MANY: i32 = 1500;
    let database = database("batches_apart");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", LEASE);
    publish_apart(&mut client, MANY, 1 << 50);
    let mut all = receive_all(&mut client);
    assert_eq!(all.len() as i32, MANY);
    assert!(all.iter().all(|delivery| delivery.deliver_count == 1));
    let in_flight = |client: &mut postgres::Client| client.in_flight("c");
    assert_eq!(in_flight(&mut client), i64::from(MANY));

    fastrand::shuffle(&mut all);
    let extend = "SELECT sequin.extend('c', $1, '2 h')";
    assert_eq!(other.query_one(extend, &[&ack_ids(&all)]).unwrap().get::<_, i32>(0), MANY);
    assert_eq!(other.nack("c", &ack_ids(&all)), MANY);
    let mut all = receive_all(&mut client);
    assert_eq!(all.len() as i32, MANY);
    assert!(all.iter().all(|delivery| delivery.deliver_count == 2));

    fastrand::shuffle(&mut all);
    assert_eq!(other.ack("c", &ack_ids(&all)), MANY);
    assert_eq!(in_flight(&mut client), 0);
    let redeliver = "SELECT sequin.redeliver('c', $1)";
    assert_eq!(other.query_one(redeliver, &[&seqs(&all)]).unwrap().get::<_, i32>(0), MANY);
    let all = receive_all(&mut client);
    assert_eq!(all.len() as i32, MANY);
    let reject = "SELECT sequin.reject('c', $1)";
    assert_eq!(other.query_one(reject, &[&ack_ids(&all)]).unwrap().get::<_, i32>(0), MANY);
    assert_eq!(client.receive("c", 1000, millis(0)).len(), 0);
    assert_eq!(client.number("SELECT count(*) FROM sequin.dead_letters"), i64::from(MANY));
}

/// All there is, ascending.
fn receive_all(client: &mut postgres::Client) -> Vec<Delivery> {
    let mut all: Vec<Delivery> = Vec::new();
    loop {
        let batch = client.receive("c", 1000, millis(0));
        if batch.is_empty() {
            assert!(all.is_sorted_by(|a, b| a.seq < b.seq));
            return all;
        }
        all.extend(batch);
    }
}

/// Publishes messages with up to so many seqs between them that nobody takes.
fn publish_apart(client: &mut postgres::Client, count: i32, most: i64) {
    client
        .batch_execute(&format!(
            "DO $$
             DECLARE sequence regclass := pg_get_serial_sequence('sequin_stream.s', 'seq');
             BEGIN
                 FOR n IN 1..{count} LOOP
                     INSERT INTO sequin_stream.s (key, data) VALUES ('k.' || n, '1');
                     PERFORM setval(sequence, currval(sequence) + (random() * {most})::bigint);
                 END LOOP;
             END $$"
        ))
        .unwrap();
}
