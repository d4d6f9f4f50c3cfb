//! A consumer that almost nothing is for.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, answer_to_waiter, millis, seconds, seqs};
use crate::harness::{database, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        a_consumer_that_nothing_matches_looks_once_and_is_served_at_once,
        rows_that_nobody_can_see_are_read_over_to_the_last,
    ]
}

const MESSAGES: i32 = 200_000;

fn a_consumer_that_nothing_matches_looks_once_and_is_served_at_once() {
    let database = database("sparse");
    let mut client = database.connect();
    client.create("s", "c", "filters => '{wanted.*}'");
    client.publish_numbers("s", MESSAGES, 1000);
    let first = time_of_nothing(&mut client);
    // An empty answer says that all was looked at.
    assert_eq!(client.number("SELECT lag FROM sequin.consumer_stats"), 0);
    let again = (0..5).map(|_| time_of_nothing(&mut client)).min().unwrap();
    assert!(again * 10 < first, "{again:?} for the second time, {first:?} for the first");

    let seq = client.publish("s", "wanted.1", "1");
    let held = client.receive("c", 1, millis(0));
    assert_eq!(seqs(&held), [seq]);
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);

    let mut seq = 0;
    let (got, took) = answer_to_waiter(&database, || seq = client.publish("s", "wanted.2", "2"));
    assert_eq!(seqs(&got.unwrap()), [seq]);
    assert!(took < seconds(1), "a waiter was served after {took:?}");
}

/// How long it takes to be told, without waiting, that there is nothing.
fn time_of_nothing(client: &mut Client) -> Duration {
    let begun = Instant::now();
    assert_eq!(client.receive("c", 10, millis(0)).len(), 0);
    begun.elapsed()
}

/// Rolled back, or deleted: read over in parts by the tail, by a consumer that is behind, and in a hole. What lies behind is
/// found, and nothing is said to be the end before. (That a part is bounded: tests in the server. What others notice: bench.)
fn rows_that_nobody_can_see_are_read_over_to_the_last() {
    const MANY: i32 = 400_000;
    let database = database("invisible");
    let mut client = database.connect();
    client.create("s", "c", "");
    assert_eq!(client.receive("c", 1, millis(0)).len(), 0);
    client.batch_execute("BEGIN").unwrap();
    client.publish_numbers("s", MANY, 1000);
    client.batch_execute("ROLLBACK").unwrap();
    let behind = client.publish("s", "a", "1");
    for rewound in [false, true] {
        let held = client.receive("c", 10, millis(0));
        assert_eq!(seqs(&held), [behind], "rewound: {rewound}");
        client.ack("c", &ack_ids(&held));
        client.batch_execute("SELECT sequin.rewind('c')").unwrap();
    }
    assert_eq!(client.drain("c", millis(0)).len(), 1);
    client.batch_execute("BEGIN").unwrap();
    client.publish_numbers("s", MANY, 1000);
    client.batch_execute("COMMIT; DELETE FROM sequin_stream.s; SELECT sequin.rewind('c')").unwrap();
    assert_eq!(client.receive("c", 10, millis(0)).len(), 0);
    // An open publisher makes one hole of them, which is looked at again when it ends.
    let mut open = database.connect();
    open.batch_execute("BEGIN").unwrap();
    let first = open.publish("s", "a", "1");
    client.batch_execute("BEGIN").unwrap();
    client.publish_numbers("s", MANY, 1000);
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(client.receive("c", 1, millis(0)).len(), 0);
    open.batch_execute("COMMIT").unwrap();
    assert_eq!(seqs(&client.receive("c", 10, millis(0))), [first]);
}
