//! Strict order per key, under everything that makes workers fail. Judged by a history of what they saw.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::{Client, Error};

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        later_messages_of_a_key_wait_for_the_first,
        an_unordered_consumer_does_not_wait,
        deliveries_of_a_key_never_overlap_and_never_skip,
        a_late_commit_is_not_overtaken_while_its_stream_is_locked,
    ]
}

fn later_messages_of_a_key_wait_for_the_first() {
    let database = database("key_waits");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '1 s'");
    let a1 = client.publish("s", "a", "1");
    let a2 = client.publish("s", "a", "2");
    let b1 = client.publish("s", "b", "1");

    let held = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&held), [a1, b1], "one message of a key at a time");
    assert_eq!(client.receive("c", 10, millis(200)).len(), 0);
    // Awaiting redelivery, by deadline and by a delayed nack, it still holds the later one back.
    let held = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&held), [a1, b1]);
    let later = "SELECT sequin.nack('c', $1, delay => '1 s')";
    client.execute(later, &[&ack_ids(&held[..1])]).unwrap();
    assert_eq!(client.ack("c", &ack_ids(&held[1..])), 1);
    assert_eq!(client.receive("c", 10, millis(200)).len(), 0);
    let held = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&held), [a1]);
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [a2]);
}

fn an_unordered_consumer_does_not_wait() {
    let database = database("unordered");
    let mut client = database.connect();
    client.create("s", "c", "ordered => false");
    client.publish_numbers("s", 20, 1);
    let held = client.receive("c", 20, seconds(10));
    assert_eq!(held.len(), 20);
    assert!(held.is_sorted_by_key(|delivery| delivery.seq));
}

/// Its message of the key is the earlier one, and was committed before anybody asked for the later one.
fn a_late_commit_is_not_overtaken_while_its_stream_is_locked() {
    const SOON: Duration = seconds(30);
    let database = database("key_locked");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.create("t", "d", "");
    for (n, wait) in [millis(0), seconds(40)].into_iter().enumerate() {
        let (key, other) = (format!("k{n}"), format!("x{n}"));
        let mut late = database.connect();
        late.batch_execute("BEGIN").unwrap();
        let first = late.publish("s", &key, "1");
        client.batch_execute("BEGIN").unwrap();
        let other = client.publish("s", &other, "1");
        client.publish("s", &key, "2");
        client.batch_execute("COMMIT").unwrap();
        assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [other]);
        late.batch_execute("COMMIT").unwrap();
        late.batch_execute("BEGIN; LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();

        let mut waiter = database.connect();
        let pid = waiter.backend_pid();
        waiter.batch_execute("SET statement_timeout = '50 s'").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || waiter.receive("c", 1, wait));
            wait_until("it waits", SOON, || client.is_waiting(pid));
            // The answer to the second of two is from a step after the one that has seen the waiter's request.
            (0..2).for_each(|_| assert_eq!(client.in_flight("d"), 0));
            late.batch_execute("COMMIT").unwrap();
            assert_eq!(seqs(&waiting.join().unwrap()), [first], "{wait:?}");
        });
    }
}

const WORKERS: usize = 16;
const KEYS: i32 = 40;
const MESSAGES: i32 = 1600;
const ACK_WAIT: Duration = millis(400);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Acked {
    Yes,
    No,
    /// The connection broke in the middle.
    Perhaps,
}

/// A delivery, as its worker saw it.
#[derive(Clone, Debug)]
struct Event {
    key: String,
    seq: i64,
    /// When the call of receive was made, and when it returned.
    called: Instant,
    received: Instant,
    /// Until when it was held for certain, once it was received.
    held_until: Instant,
    acked: Acked,
    /// When the call that ended it was made, and when that returned.
    ending: Instant,
    ended: Instant,
}

impl Event {
    fn was_held(&self) -> bool {
        self.received < self.held_until
    }
}

fn deliveries_of_a_key_never_overlap_and_never_skip() {
    let database = database("per_key_chaos");
    let mut client = database.connect();
    client.create("s", "c", &format!("ack_wait => '{} ms'", ACK_WAIT.as_millis()));

    let history = Mutex::new(Vec::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let mut client = database.connect();
                    while round(&mut client, &history).is_ok() {
                        if done.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        // Published while they work, in pieces, and with a worker's backend killed now and then.
        for _ in 0..20 {
            client.publish_numbers("s", MESSAGES / 20, KEYS);
            kill_a_worker(&mut client);
            thread::sleep(millis(50));
        }
        let end = Instant::now() + seconds(120);
        while acked(&history) < MESSAGES as usize && Instant::now() < end {
            kill_a_worker(&mut client);
            thread::sleep(millis(300));
        }
        done.store(true, Ordering::SeqCst);
    });
    // What the last dying workers held.
    let end = Instant::now() + ACK_WAIT * 3;
    while Instant::now() < end || acked(&history) < MESSAGES as usize {
        assert!(Instant::now() < end + seconds(60), "{} of {MESSAGES} acked", acked(&history));
        let called = Instant::now();
        let deliveries = client.receive("c", 10, millis(100));
        let received = Instant::now();
        for delivery in deliveries {
            finish(&mut client, &history, delivery, called, received, Choice::Ack).unwrap();
        }
    }

    let mut by_key: HashMap<String, Vec<Event>> = HashMap::new();
    for event in history.into_inner().unwrap() {
        by_key.entry(event.key.clone()).or_default().push(event);
    }
    assert_eq!(by_key.len(), KEYS as usize);
    for (key, mut events) in by_key {
        events.sort_by_key(|event| event.received);
        never_overlap(&events);
        never_skip(&mut client, &key, &events);
    }
    let left = "SELECT (ready + in_flight + delayed + withheld)::bigint FROM sequin.consumer_stats
                WHERE consumer = 'c'";
    assert_eq!(client.number(left), 0);
}

/// How many messages may have been acked.
fn acked(history: &Mutex<Vec<Event>>) -> usize {
    let history = history.lock().unwrap();
    let acked = history.iter().filter(|event| event.acked != Acked::No);
    acked.map(|event| event.seq).collect::<HashSet<_>>().len()
}

/// While a delivery of a key is held for certain, no other delivery of that key is.
fn never_overlap(events: &[Event]) {
    let held: Vec<&Event> = events.iter().filter(|event| event.was_held()).collect();
    for (index, event) in held.iter().enumerate() {
        for other in &held[index + 1..] {
            let apart = other.received >= event.held_until;
            assert!(apart, "two deliveries of one key at a time:\n{event:#?}\n{other:#?}");
        }
    }
}

/// The messages of a key are delivered from the first to the last, each only once the one before may be acked, and
/// not again after its ack has returned.
fn never_skip(client: &mut Client, key: &str, events: &[Event]) {
    let query = "SELECT seq FROM sequin_stream.s WHERE key = $1 ORDER BY seq";
    let expected: Vec<i64> =
        client.query(query, &[&key]).unwrap().iter().map(|row| row.get(0)).collect();
    let of = |seq| events.iter().filter(move |event: &&Event| event.seq == seq);
    let mut position = 0;
    // One that returned only after its deadline says nothing about when it was granted.
    for event in events.iter().filter(|event| event.was_held()) {
        while expected[position] != event.seq {
            let before = expected[position];
            let mut acked = of(before).filter(|earlier| earlier.acked != Acked::No);
            let acked = acked.any(|earlier| earlier.ending <= event.received);
            let earlier: Vec<&Event> = of(before).collect();
            assert!(acked, "came before {before} was acked:\n{event:#?}\n{before}:\n{earlier:#?}");
            position += 1;
            assert!(position < expected.len(), "{key}: {} came after later ones", event.seq);
        }
        let mut acks = of(event.seq).filter(|earlier| earlier.acked == Acked::Yes);
        let again = acks.find(|earlier| earlier.ended < event.called);
        assert!(again.is_none(), "came again after its ack:\n{again:#?}\n{event:#?}");
    }
    for seq in expected {
        assert!(of(seq).any(|event| event.acked != Acked::No), "{key}: {seq} was skipped");
    }
}

#[derive(Clone, Copy)]
enum Choice {
    Ack,
    LateAck,
    Nack,
    Forget,
}

/// What a worker does once, some of it badly. An error: its connection is gone.
fn round(client: &mut Client, history: &Mutex<Vec<Event>>) -> Result<(), Error> {
    if fastrand::u8(..10) < 3 {
        return round_in_transaction(client, history);
    }
    let called = Instant::now();
    let deliveries = client.try_receive("c", fastrand::i32(1..=8), millis(100))?;
    let received = Instant::now();
    let keys: HashSet<&str> = deliveries.iter().map(|delivery| delivery.key.as_str()).collect();
    assert_eq!(keys.len(), deliveries.len(), "a key twice in one batch: {deliveries:?}");
    for delivery in deliveries {
        let choice = match fastrand::u8(..100) {
            0..70 => Choice::Ack,
            70..74 => Choice::LateAck,
            74..92 => Choice::Nack,
            _ => Choice::Forget,
        };
        finish(client, history, delivery, called, received, choice)?;
    }
    Ok(())
}

fn finish(
    client: &mut Client,
    history: &Mutex<Vec<Event>>,
    delivery: Delivery,
    called: Instant,
    received: Instant,
    choice: Choice,
) -> Result<(), Error> {
    let deadline = called + ACK_WAIT;
    if let Choice::LateAck = choice {
        thread::sleep((deadline + millis(20)).saturating_duration_since(Instant::now()));
    }
    let ending = Instant::now();
    let result = match choice {
        Choice::Ack | Choice::LateAck => client.try_ack("c", &[delivery.ack_id]),
        Choice::Nack => client.try_nack("c", &[delivery.ack_id]),
        Choice::Forget => Ok(0),
    };
    let (held_until, acked) = match (&result, choice) {
        (Ok(0), _) => (deadline, Acked::No),
        (Ok(_), Choice::Nack) => (ending, Acked::No),
        (Ok(_), _) => (ending, Acked::Yes),
        (Err(_), Choice::Nack) => (ending.min(deadline), Acked::No),
        (Err(_), _) => (ending.min(deadline), Acked::Perhaps),
    };
    let ended = Instant::now();
    let Delivery { key, seq, .. } = delivery;
    let event = Event { key, seq, called, received, held_until, acked, ending, ended };
    history.lock().unwrap().push(event);
    result.map(drop)
}

fn round_in_transaction(client: &mut Client, history: &Mutex<Vec<Event>>) -> Result<(), Error> {
    let called = Instant::now();
    let mut transaction = client.transaction()?;
    let deliveries = transaction.try_receive("c", fastrand::i32(1..=8), millis(100))?;
    let received = Instant::now();
    thread::sleep(millis(fastrand::u64(..20)));
    let commit = fastrand::u8(..10) < 6;
    let mut acked = Vec::new();
    for delivery in &deliveries {
        acked.push(commit && transaction.try_ack("c", &[delivery.ack_id])? == 1);
    }
    let ending = Instant::now();
    let result = if commit { transaction.commit() } else { transaction.rollback() };
    let ended = Instant::now();
    let deadline = called + ACK_WAIT;
    let mut history = history.lock().unwrap();
    for (Delivery { key, seq, .. }, acked) in deliveries.into_iter().zip(acked) {
        let (held_until, acked) = match (&result, acked) {
            (Ok(()), true) => (ending, Acked::Yes),
            (Ok(()), false) => (deadline.min(ending), Acked::No),
            // Its backend may have been dead, and all released, for a while.
            (Err(_), true) => (received, Acked::Perhaps),
            (Err(_), false) => (received, Acked::No),
        };
        history.push(Event { key, seq, called, received, held_until, acked, ending, ended });
    }
    result
}

fn kill_a_worker(client: &mut Client) {
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'black_box'
               AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
        )
        .unwrap();
}
