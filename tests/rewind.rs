//! Rewinding while everybody works: all comes once more, and nothing of before counts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock, mpsc};
use std::thread;

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        all_comes_again_after_each_rewind_and_old_ack_ids_are_dead,
        an_ack_that_a_rewind_overtakes_counts_nothing,
        a_rewind_to_a_time_ends_whatever_seqs_there_are,
        what_one_transaction_wants_again_is_bounded,
    ]
}

/// However many calls and chunks it takes: what it wants is in memory until it commits, and from then on.
fn what_one_transaction_wants_again_is_bounded() {
    const MANY: i32 = 200_000;
    const BOUND: i64 = 131_072;
    let database = database("wanted_again");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.publish_numbers("s", MANY, MANY);
    client.create_consumer("s", "late", "new_only => true");
    assert_eq!(client.receive("late", 1, millis(0)).len(), 0);
    let again = "SELECT sequin.redeliver('late', array(SELECT seq FROM sequin_stream.s
                 WHERE seq BETWEEN $1 AND $2))";
    let all = client.query_one(again, &[&1i64, &i64::from(MANY)]);
    assert_eq!(sqlstate(all), "54000");
    // In several calls of a transaction, and beside another that is open.
    let mut other = database.connect();
    other.batch_execute("BEGIN").unwrap();
    let count: i32 = other.query_one(again, &[&1i64, &100_000i64]).unwrap().get(0);
    assert_eq!(count, 100_000);
    client.batch_execute("BEGIN").unwrap();
    let count: i32 = client.query_one(again, &[&100_001i64, &BOUND]).unwrap().get(0);
    assert_eq!(i64::from(count), BOUND - 100_000);
    let more = client.query_one(again, &[&(BOUND + 1), &(BOUND + 1)]);
    assert_eq!(sqlstate(more), "54000");
    client.batch_execute("ROLLBACK").unwrap();
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(
        client.number("SELECT ready FROM sequin.consumer_stats WHERE consumer = 'late'"),
        100_000
    );
}

const MESSAGES: i32 = 1000;
const KEYS: i32 = 100;
const REWINDS: usize = 5;

/// What the workers have seen and done.
#[derive(Default)]
struct History {
    done: AtomicBool,
    /// Acks are counted for the rewind before or after them, so the two exclude each other.
    rewinding: RwLock<()>,
    /// All ack_ids that were ever received.
    seen: Mutex<HashSet<i64>>,
    /// Messages with an ack that took effect since the last rewind.
    acked: Mutex<HashSet<i64>>,
}

fn all_comes_again_after_each_rewind_and_old_ack_ids_are_dead() {
    let database = database("rewind_load");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", MESSAGES, KEYS);
    let history = History::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| work(&database, &history));
        }
        for round in 0..REWINDS {
            // After some of it, or after all of it; the workers receive on all the while.
            let enough = fastrand::usize(1..=MESSAGES as usize);
            wait_until("the workers get on", seconds(60), || {
                history.acked.lock().unwrap().len() >= enough
            });
            let exclusive = history.rewinding.write().unwrap();
            let old: Vec<i64> = history.seen.lock().unwrap().iter().copied().collect();
            client.batch_execute("SELECT sequin.rewind('c')").unwrap();
            assert_eq!(client.ack("c", &old), 0, "old ack_ids count after rewind {round}");
            assert_eq!(client.nack("c", &old), 0, "old ack_ids count after rewind {round}");
            history.acked.lock().unwrap().clear();
            drop(exclusive);
        }
        wait_until("all has come since the last rewind", seconds(60), || {
            history.acked.lock().unwrap().len() == MESSAGES as usize
        });
        history.done.store(true, Ordering::SeqCst);
    });
    assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "a finished message came again");
    assert_eq!(client.in_flight("c"), 0);
    client.restart_dispatcher();
    assert_eq!(client.receive("c", 10, millis(500)).len(), 0, "the journal has forgotten an ack");
}

fn work(database: &Database, history: &History) {
    let mut client = database.connect();
    while !history.done.load(Ordering::SeqCst) {
        let held = client.receive("c", fastrand::i32(1..=20), millis(100));
        for ack_id in ack_ids(&held) {
            assert!(history.seen.lock().unwrap().insert(ack_id), "ack_id {ack_id} came twice");
        }
        for delivery in held {
            let _rewinds_wait = history.rewinding.read().unwrap();
            if client.ack("c", &[delivery.ack_id]) == 1 {
                let first = history.acked.lock().unwrap().insert(delivery.seq);
                assert!(first, "acked twice since the last rewind: {delivery:?}");
            }
        }
    }
}

/// The ack is of a time that was undone before it committed.
fn an_ack_that_a_rewind_overtakes_counts_nothing() {
    let database = database("rewind_open_ack");
    let (mut client, mut worker) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", 4, 4);
    let held = worker.receive("c", 4, seconds(10));
    let mut transaction = worker.transaction().unwrap();
    assert_eq!(transaction.ack("c", &ack_ids(&held[..2])), 2);
    assert_eq!(transaction.nack("c", &ack_ids(&held[2..])), 2);
    client.batch_execute("SELECT sequin.rewind('c')").unwrap();
    let again = client.receive("c", 3, seconds(10));
    assert_eq!(seqs(&again), seqs(&held[..3]));
    transaction.commit().unwrap();
    assert_eq!(client.in_flight("c"), 3);
    assert_eq!(client.ack("c", &ack_ids(&again)), 3);
    client.restart_dispatcher();
    assert_eq!(seqs(&client.drain("c", millis(500))), seqs(&held[3..]));
}

fn a_rewind_to_a_time_ends_whatever_seqs_there_are() {
    let database = database("rewind_highest_seq");
    let mut client = database.connect();
    client.create("s", "c", "");
    let first = client.publish("s", "a", "1");
    client
        .execute(
            "INSERT INTO sequin_stream.s (seq, key, data) OVERRIDING SYSTEM VALUE VALUES ($1, 'a', '2')",
            &[&i64::MAX],
        )
        .unwrap();
    // Not with statement_timeout: what must not come back is a loop that nothing interrupts.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for time in ["-infinity", "infinity", "tomorrow", "yesterday"] {
            client
                .batch_execute(&format!("SELECT sequin.rewind('c', to_time => '{time}')"))
                .unwrap();
        }
        sender.send(client).unwrap();
    });
    let mut client = receiver.recv_timeout(seconds(60)).expect("the rewind goes on for ever");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [first]);
}
