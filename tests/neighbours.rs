//! What goes wrong with one consumer or one stream delays no other.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        a_hot_key_delays_no_other_key_and_no_other_consumer,
        a_key_with_a_long_queue_stops_no_other_key_and_no_other_consumer,
        a_locked_stream_delays_its_own_receivers_only,
        a_locked_stream_wakes_who_waited_before,
        a_stream_that_is_altered_disturbs_no_other,
    ]
}

/// Far above what a call takes that nothing delays, far below what it would take otherwise.
const SOON: Duration = seconds(2);

/// Publishes and receives on stream t, with consumer d, several times: each call must be back soon.
fn others_work(client: &mut Client) {
    client.batch_execute(&format!("SET statement_timeout = {}", SOON.as_millis())).unwrap();
    for _ in 0..20 {
        let seq = client.publish("t", "a", "1");
        let held = client.receive("d", 10, millis(0));
        assert_eq!(seqs(&held), [seq]);
        assert_eq!(client.ack("d", &ack_ids(&held)), 1);
    }
    client.batch_execute("RESET statement_timeout").unwrap();
}

/// The views show stream t and consumer d.
fn others_are_shown(client: &mut Client) {
    client.batch_execute(&format!("SET statement_timeout = {}", SOON.as_millis())).unwrap();
    let stats = "SELECT messages FROM sequin.stream_stats WHERE stream = 't'";
    assert!(client.number(stats) >= 20);
    let stats = "SELECT acked_total FROM sequin.consumer_stats WHERE consumer = 'd'";
    assert!(client.number(stats) >= 20);
    client.batch_execute("RESET statement_timeout").unwrap();
}

fn a_hot_key_delays_no_other_key_and_no_other_consumer() {
    const HOT: i32 = 5000;
    let database = database("hot_key");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.create_consumer("s", "cold_only", "filters => '{cold.*}'");
    client.create("t", "d", "");
    client.publish_numbers("s", HOT, 1);
    let hot = client.receive("c", 10, seconds(10));
    assert_eq!(hot.len(), 1);
    for n in 0..20 {
        let seq = client.publish("s", &format!("cold.{n}"), "1");
        for consumer in ["c", "cold_only"] {
            let begun = Instant::now();
            let held = other.receive(consumer, 10, seconds(10));
            assert!(begun.elapsed() < SOON, "{consumer} got it after {:?}", begun.elapsed());
            assert_eq!(seqs(&held), [seq]);
            assert_eq!(other.ack(consumer, &ack_ids(&held)), 1);
        }
    }
    others_work(&mut other);
    let withheld = "SELECT withheld FROM sequin.consumer_stats WHERE consumer = 'c'";
    assert_eq!(client.number(withheld), i64::from(HOT) - 1);
    // Nor does the hot key itself take long, one at a time.
    assert_eq!(client.ack("c", &ack_ids(&hot)), 1);
    for n in 1..200 {
        let held = client.receive("c", 10, seconds(10));
        assert_eq!(seqs(&held), [hot[0].seq + n]);
        assert_eq!(client.ack("c", &ack_ids(&held)), 1);
    }
}

/// More than a consumer looks ahead of messages with keys of their own.
fn a_key_with_a_long_queue_stops_no_other_key_and_no_other_consumer() {
    const HOT: i64 = 70_000;
    let database = database("long_queue");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.create_consumer("s", "d", "");
    client.create_consumer("s", "cold_only", "filters => '{cold}'");
    for _ in 0..7 {
        let publish = "SELECT count(*) FROM sequin.publish_many('s',
                       array_fill('hot'::text, '{10000}'), array_fill('1'::jsonb, '{10000}'))";
        assert_eq!(client.number(publish), HOT / 7);
    }
    let hot = client.receive("c", 10, seconds(30));
    assert_eq!(hot.len(), 1);
    let loaded = "SELECT in_flight + withheld FROM sequin.consumer_stats WHERE consumer = 'c'";
    wait_until("all are withheld but the first", seconds(30), || {
        assert_eq!(client.receive("c", 10, millis(0)).len(), 0);
        client.number(loaded) == HOT
    });
    // The consumer's own other keys; one that is served from the tail; and one that has all of it still before it.
    for _ in 0..20 {
        let seq = client.publish("s", "cold", "1");
        for consumer in ["c", "cold_only"] {
            let begun = Instant::now();
            let held = client.receive(consumer, 10, seconds(10));
            assert!(begun.elapsed() < SOON, "{consumer}: came after {:?}", begun.elapsed());
            assert_eq!(seqs(&held), [seq]);
            assert_eq!(client.ack(consumer, &ack_ids(&held)), 1);
        }
    }
    for n in 0..100 {
        let held = client.receive("d", 10, seconds(10));
        assert_eq!(seqs(&held)[0], hot[0].seq + n);
        assert_eq!(client.ack("d", &ack_ids(&held)), held.len() as i32);
    }
    let mut held = hot;
    for _ in 0..100 {
        assert_eq!(client.ack("c", &ack_ids(&held)), 1);
        let next = client.receive("c", 10, seconds(10));
        assert_eq!(seqs(&next), [held[0].seq + 1]);
        held = next;
    }
}

fn a_locked_stream_delays_its_own_receivers_only() {
    let database = database("locked_stream");
    let (mut client, mut locker) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.create("t", "d", "");
    let seq = client.publish("s", "a", "1");
    others_work(&mut client);
    locker.batch_execute("BEGIN; LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();

    client.batch_execute("SET lock_timeout = '300 ms'").unwrap();
    for wait in [millis(0), seconds(60)] {
        let begun = Instant::now();
        assert_eq!(sqlstate(client.try_receive("c", 1, wait)), "55P03");
        assert!(begun.elapsed() < SOON, "lock_timeout ended it after {:?}", begun.elapsed());
    }
    client.batch_execute("RESET lock_timeout").unwrap();
    let mut waiter = database.connect();
    let pid = waiter.backend_pid();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || waiter.receive("c", 1, seconds(60)));
        let locks = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
        wait_until("the receiver waits for the lock", SOON, || client.number(&locks) == 1);
        others_work(&mut client);
        others_are_shown(&mut client);
        assert_eq!(client.number(&locks), 1, "it does not wait any more");
        locker.batch_execute("COMMIT").unwrap();
        let begun = Instant::now();
        assert_eq!(seqs(&waiting.join().unwrap()), [seq]);
        assert!(begun.elapsed() < SOON, "it went on only after {:?}", begun.elapsed());
    });
}

/// Whoever waits for messages holds no lock on the table, gets none while it is locked, and is woken afterwards.
fn a_locked_stream_wakes_who_waited_before() {
    let database = database("locked_later");
    let (mut client, mut locker) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.create("t", "d", "");
    let mut waiter = database.connect();
    let pid = waiter.backend_pid();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || waiter.receive("c", 1, seconds(60)));
        wait_until("the receiver waits", SOON, || client.is_waiting(pid));
        locker.batch_execute("SET lock_timeout = '2 s'; BEGIN").unwrap();
        locker.batch_execute("LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();
        let seq = locker.publish("s", "a", "1");
        others_work(&mut client);
        others_are_shown(&mut client);
        assert!(client.is_waiting(pid));
        locker.batch_execute("COMMIT").unwrap();
        let begun = Instant::now();
        assert_eq!(seqs(&waiting.join().unwrap()), [seq]);
        assert!(begun.elapsed() < SOON, "it was woken only after {:?}", begun.elapsed());
    });
}

fn a_stream_that_is_altered_disturbs_no_other() {
    let database = database("altered_stream");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.create("t", "d", "");
    client.publish_numbers("s", 10, 10);
    let held = client.receive("c", 3, seconds(10));
    client.batch_execute("ALTER TABLE sequin_stream.s DROP CONSTRAINT s_pkey").unwrap();
    for wait in [millis(0), millis(500)] {
        let begun = Instant::now();
        match client.try_receive("c", 10, wait) {
            Ok(got) => assert_eq!(got.len(), 0),
            result => assert_eq!(sqlstate(result), "42809"),
        }
        assert!(begun.elapsed() < wait + SOON, "an answer only after {:?}", begun.elapsed());
    }
    let mut waiter = database.connect();
    let pid = waiter.backend_pid();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || waiter.try_receive("c", 1, seconds(5)));
        wait_until("it waits, or has failed", SOON, || {
            client.is_waiting(pid) || waiting.is_finished()
        });
        others_work(&mut client);
        others_are_shown(&mut client);
        drop(waiting.join().unwrap());
    });
    others_work(&mut client);
    // After a restart, too, when nothing of the stream is in memory.
    client.restart_dispatcher();
    others_work(&mut client);
    others_are_shown(&mut client);
    client.batch_execute("ALTER TABLE sequin_stream.s ADD PRIMARY KEY (seq)").unwrap();
    assert_eq!(client.ack("c", &ack_ids(&held)), 3);
    let mut rest = Vec::new();
    wait_until("it goes on when it is mended", SOON, || {
        rest.extend(client.drain("c", millis(100)));
        rest.len() == 7
    });
    assert!(rest.is_sorted_by_key(|delivery| delivery.seq));
}
