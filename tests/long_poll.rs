//! A receiver waits without polling, and is woken by whatever makes a message deliverable.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, Delivery, ack_ids, answer_to_waiter, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_waiting_receiver_gets_what_is_published_later,
        each_way_to_make_a_message_deliverable_wakes,
        waiting_receivers_are_served_one_message_each,
        a_wait_ends_empty_when_its_time_is_up,
        a_paused_consumer_delivers_nothing,
        waiters_of_other_consumers_are_not_disturbed,
    ]
}

/// Far beyond what waking takes, far below the waits and leases that would hide a missing wake-up.
const SOON: Duration = seconds(5);
const LONG: Duration = seconds(60);

/// What a receiver gets that waits already while `act` runs.
fn received_by_waiter(database: &Database, act: impl FnOnce()) -> Vec<Delivery> {
    let (got, took) = answer_to_waiter(database, act);
    assert!(took < SOON, "woken only after {took:?}");
    got.unwrap()
}

fn a_waiting_receiver_gets_what_is_published_later() {
    let database = database("wait_publish");
    let mut client = database.connect();
    client.create("s", "c", "");
    for _ in 0..20 {
        let mut seq = 0;
        let got = received_by_waiter(&database, || seq = client.publish("s", "a", "1"));
        assert_eq!(seqs(&got), [seq]);
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    }
}

fn each_way_to_make_a_message_deliverable_wakes() {
    let database = database("wait_ways");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    let run = |client: &mut Client, sql: &str| client.batch_execute(sql).unwrap();
    let receive = |client: &mut Client| {
        let held = client.receive("c", 10, SOON);
        assert_eq!(held.len(), 1);
        held
    };
    let taken = |client: &mut Client, got: Vec<Delivery>, way: &str| {
        assert_eq!(got.len(), 1, "{way}");
        assert_eq!(client.ack("c", &ack_ids(&got)), 1, "{way}");
    };

    let insert = "INSERT INTO sequin_stream.s (key, data) VALUES ('a', '1')";
    let got = received_by_waiter(&database, || run(&mut client, insert));
    taken(&mut client, got, "insert");

    let got = received_by_waiter(&database, || {
        let copy = "COPY sequin_stream.s (key, data) FROM PROGRAM 'echo \"a,1\"' WITH (FORMAT csv)";
        run(&mut client, copy);
    });
    taken(&mut client, got, "copy");

    run(&mut client, insert);
    let held = receive(&mut client);
    let got = received_by_waiter(&database, || assert_eq!(client.nack("c", &ack_ids(&held)), 1));
    taken(&mut client, got, "nack");

    run(&mut client, insert);
    let held = receive(&mut client);
    let got = received_by_waiter(&database, || {
        let delay = "SELECT sequin.nack('c', $1, delay => '300 ms')";
        client.execute(delay, &[&ack_ids(&held)]).unwrap();
    });
    taken(&mut client, got, "the end of a nack's delay");

    run(&mut client, insert);
    let held = receive(&mut client);
    let got = received_by_waiter(&database, || {
        let extend = "SELECT sequin.extend('c', $1, ack_wait => '300 ms')";
        client.execute(extend, &[&ack_ids(&held)]).unwrap();
    });
    taken(&mut client, got, "the deadline");

    run(&mut client, insert);
    run(&mut client, "BEGIN");
    receive(&mut client);
    let got = received_by_waiter(&database, || run(&mut client, "ROLLBACK"));
    taken(&mut client, got, "rollback of a receive");

    run(&mut client, insert);
    run(&mut client, insert);
    let held = receive(&mut client);
    let got = received_by_waiter(&database, || assert_eq!(client.ack("c", &ack_ids(&held)), 1));
    taken(&mut client, got, "ack of an earlier message of the key");

    let got = received_by_waiter(&database, || {
        run(
            &mut client,
            "SELECT sequin.rewind('c', to_seq => (SELECT max(seq) FROM sequin_stream.s))",
        );
    });
    taken(&mut client, got, "rewind");

    let got = received_by_waiter(&database, || {
        let all = "(SELECT array_agg(seq ORDER BY seq) FROM (SELECT max(seq) AS seq FROM sequin_stream.s) t)";
        run(&mut client, &format!("SELECT sequin.redeliver('c', {all})"));
    });
    taken(&mut client, got, "redeliver");
}

fn waiting_receivers_are_served_one_message_each() {
    const WAITERS: usize = 20;
    let database = database("wait_many");
    let mut client = database.connect();
    client.create("s", "c", "");
    let mut waiters: Vec<Client> = (0..WAITERS).map(|_| database.connect()).collect();
    let pids: Vec<i32> = waiters.iter_mut().map(|waiter| waiter.backend_pid()).collect();
    let mut got: Vec<i64> = thread::scope(|scope| {
        let waiting: Vec<_> = waiters
            .into_iter()
            .map(|mut waiter| scope.spawn(move || seqs(&waiter.receive("c", 1, LONG))))
            .collect();
        for pid in pids {
            wait_until("all wait", SOON, || client.is_waiting(pid));
        }
        let begun = Instant::now();
        client.publish_numbers("s", WAITERS as i32, WAITERS as i32);
        let got = waiting.into_iter().flat_map(|waiter| waiter.join().unwrap()).collect();
        assert!(begun.elapsed() < SOON, "woken only after {:?}", begun.elapsed());
        got
    });
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), WAITERS);
}

fn a_wait_ends_empty_when_its_time_is_up() {
    let database = database("wait_end");
    let mut client = database.connect();
    client.create("s", "c", "");
    for wait in [millis(0), millis(300), millis(1200)] {
        let begun = Instant::now();
        assert_eq!(client.receive("c", 1, wait).len(), 0);
        let took = begun.elapsed();
        assert!(took >= wait && took < wait + seconds(2), "{took:?} instead of {wait:?}");
    }
    // A request whose time was up takes nothing away.
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 1, SOON)), [seq]);
}

fn a_paused_consumer_delivers_nothing() {
    let database = database("wait_pause");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.batch_execute("SELECT sequin.pause_consumer('c')").unwrap();
    let seq = client.publish("s", "a", "1");
    assert_eq!(client.receive("c", 1, millis(300)).len(), 0);
    let got = received_by_waiter(&database, || {
        client.batch_execute("SELECT sequin.resume_consumer('c')").unwrap();
    });
    assert_eq!(seqs(&got), [seq]);
}

fn waiters_of_other_consumers_are_not_disturbed() {
    let database = database("wait_filters");
    let mut client = database.connect();
    client.create("s", "c", "filters => '{orders.*.paid}'");
    client.create_consumer("s", "rest", "filters => '{orders.>, users.*}'");
    let got = received_by_waiter(&database, || {
        for key in ["orders.1.sent", "users.7", "other", "orders.1.2.paid"] {
            client.publish("s", key, "0");
        }
        client.publish("s", "orders.1.paid", "1");
    });
    let keys: Vec<&str> = got.iter().map(|delivery| delivery.key.as_str()).collect();
    assert_eq!(keys, ["orders.1.paid"]);
    let rest = client.drain("rest", millis(300));
    let keys: Vec<&str> = rest.iter().map(|delivery| delivery.key.as_str()).collect();
    assert_eq!(keys, ["orders.1.sent", "users.7", "orders.1.2.paid", "orders.1.paid"]);
}
