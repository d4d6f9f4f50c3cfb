//! Every committed message comes, in order per key, none early, none twice, none that was rolled back.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::{Client, Transaction};

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        what_was_committed_before_is_there_without_waiting,
        open_transactions_delay_nobody,
        same_key_published_in_the_wrong_order,
        load_of_all_kinds_of_publishing,
        backlog_larger_than_the_look_ahead,
        a_consumer_may_start_anywhere,
        a_start_at_now_reads_nothing_of_what_is_long_committed,
    ]
}

fn what_was_committed_before_is_there_without_waiting() {
    let database = database("read_committed");
    let (mut publisher, mut worker) = (database.connect(), database.connect());
    publisher.create("s", "c", "");
    for n in 0..200 {
        let seq = publisher.publish("s", "a", &n.to_string());
        let got = worker.receive("c", 1, millis(0));
        assert_eq!(seqs(&got), [seq], "message {n} was committed before receive was called");
        worker.ack("c", &ack_ids(&got));
    }
}

fn open_transactions_delay_nobody() {
    let database = database("open_transactions");
    let mut client = database.connect();
    client.create("s", "c", "");
    let mut holders: Vec<Client> = (0..20).map(|_| database.connect()).collect();
    let mut open: Vec<Transaction> = Vec::new();
    let mut hidden = Vec::new();
    for (n, holder) in holders.iter_mut().enumerate() {
        let mut transaction = holder.transaction().unwrap();
        hidden.push(transaction.publish("s", &format!("open.{n}"), "1"));
        open.push(transaction);
        // Others publish between, and all of it comes at once.
        let seq = client.publish("s", &format!("other.{n}"), "2");
        let got = client.receive("c", 100, seconds(10));
        assert_eq!(seqs(&got), [seq]);
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    }
    // They end in the reverse of their order, every third without success.
    for (n, transaction) in open.into_iter().enumerate().rev() {
        if n % 3 == 0 {
            transaction.rollback().unwrap();
            assert_eq!(client.receive("c", 100, millis(20)).len(), 0);
        } else {
            transaction.commit().unwrap();
            let got = client.receive("c", 100, seconds(10));
            assert_eq!(seqs(&got), [hidden[n]]);
            assert_eq!(client.ack("c", &ack_ids(&got)), 1);
        }
    }
    assert_eq!(client.receive("c", 100, millis(300)).len(), 0);
}

/// The lower seq becomes visible while the higher one of its key is in flight: it waits for it.
fn same_key_published_in_the_wrong_order() {
    let database = database("wrong_order");
    let (mut early, mut client) = (database.connect(), database.connect());
    client.create("s", "c", "");
    let mut open = early.transaction().unwrap();
    let low = open.publish("s", "a", "1");
    let high = client.publish("s", "a", "2");
    let held = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&held), [high]);
    open.commit().unwrap();
    assert_eq!(client.receive("c", 10, millis(300)).len(), 0, "two of one key in flight");
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [low]);
}

const PUBLISHERS: usize = 8;
const WORKERS: usize = 4;
const MESSAGES: i64 = 100_000;
const KEYS: u32 = 50;

/// The last number of each publisher and key that a worker has had.
type Progress = Mutex<HashMap<(usize, String), i64>>;

/// 8 publishers with pauses, rollbacks and savepoints, COPY among them; 4 workers; 100,000 messages. Each publisher
/// numbers its messages of a key from 1 without gaps, so that whoever receives them sees a loss, a repetition or a
/// wrong order at once.
fn load_of_all_kinds_of_publishing() {
    let database = database("load");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '5 min'");
    let progress = Progress::default();
    let received = AtomicI64::new(0);
    let publishing = AtomicUsize::new(PUBLISHERS);
    let end = Instant::now() + seconds(180);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (database, publishing) = (&database, &publishing);
            scope.spawn(move || {
                let mut client = database.connect();
                Publisher::new(publisher).run(&mut client, MESSAGES / PUBLISHERS as i64);
                publishing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut client = database.connect();
                while received.load(Ordering::SeqCst) < MESSAGES && Instant::now() < end {
                    let batch = client.receive("c", fastrand::i32(1..=200), millis(300));
                    for delivery in &batch {
                        check(&progress, delivery);
                    }
                    assert_eq!(client.ack("c", &ack_ids(&batch)), batch.len() as i32);
                    received.fetch_add(batch.len() as i64, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(publishing.into_inner(), 0, "a publisher failed");
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), MESSAGES);
    assert_eq!(received.into_inner(), MESSAGES);
    assert_eq!(progress.into_inner().unwrap().values().sum::<i64>(), MESSAGES);
    assert_eq!(client.receive("c", 1, millis(300)).len(), 0, "more came than was published");
}

fn check(progress: &Progress, delivery: &Delivery) {
    let (publisher, number) = delivery.data.trim_matches('"').split_once(':').unwrap();
    let (publisher, number): (usize, i64) = (publisher.parse().unwrap(), number.parse().unwrap());
    assert_ne!(number, NEVER, "rolled back, and delivered: {delivery:?}");
    let mut progress = progress.lock().unwrap();
    let last = progress.entry((publisher, delivery.key.clone())).or_default();
    assert_eq!(number, *last + 1, "publisher {publisher}, after {last}: {delivery:?}");
    *last = number;
}

/// The number of a message that is to be rolled back.
const NEVER: i64 = -1;

struct Publisher {
    id: usize,
    /// The last number of each key that was committed.
    numbers: HashMap<String, i64>,
}

impl Publisher {
    fn new(id: usize) -> Self {
        Self { id, numbers: HashMap::new() }
    }

    fn run(&mut self, client: &mut Client, mut left: i64) {
        while left > 0 {
            let mut transaction = client.transaction().unwrap();
            let choice = fastrand::u8(..20);
            if choice < 2 {
                self.publish_some(&mut transaction, 30, true);
                pause();
                transaction.rollback().unwrap();
                continue;
            }
            if choice < 6 {
                let mut savepoint = transaction.savepoint("s").unwrap();
                self.publish_some(&mut savepoint, 10, true);
                savepoint.rollback().unwrap();
            }
            let mut published = self.publish_some(&mut transaction, left.min(60), false);
            if choice < 9 && published < left {
                pause();
                let mut savepoint = transaction.savepoint("s").unwrap();
                published += self.publish_some(&mut savepoint, left - published, false);
                savepoint.commit().unwrap();
            }
            if choice < 15 {
                pause();
            }
            transaction.commit().unwrap();
            left -= published;
        }
    }

    /// Publishes 1 to `most` messages in one of the ways there are.
    fn publish_some(&mut self, transaction: &mut Transaction, most: i64, never: bool) -> i64 {
        let way = fastrand::u8(..4);
        let count = if way == 0 { 1 } else { fastrand::i64(1..=most.min(60)) };
        let (keys, data): (Vec<String>, Vec<String>) =
            (0..count).map(|_| self.next_message(never)).unzip();
        match way {
            0 => {
                transaction.publish("s", &keys[0], &data[0]);
            }
            1 => {
                let publish = "SELECT * FROM sequin.publish_many('s', $1, $2::text[]::jsonb[])";
                let seqs: Vec<i64> = (transaction.query(publish, &[&keys, &data]).unwrap().iter())
                    .map(|row| row.get(0))
                    .collect();
                assert!(seqs.is_sorted() && seqs.len() == keys.len(), "{seqs:?}");
            }
            2 => {
                let insert = "INSERT INTO sequin_stream.s (key, data)
                              SELECT * FROM unnest($1::text[], $2::text[]::jsonb[])";
                transaction.execute(insert, &[&keys, &data]).unwrap();
            }
            _ => {
                let rows = keys.iter().zip(&data).map(|(key, data)| format!("{key}\t{data}\n"));
                transaction.try_copy("s", &rows.collect::<String>()).unwrap();
            }
        }
        count
    }

    fn next_message(&mut self, never: bool) -> (String, String) {
        let key = format!("load.{}", fastrand::u32(..KEYS));
        let number = if never {
            NEVER
        } else {
            let number = self.numbers.entry(key.clone()).or_default();
            *number += 1;
            *number
        };
        let data = format!("\"{}:{number}\"", self.id);
        (key, data)
    }
}

/// Within a transaction: mostly a moment, now and then long.
fn pause() {
    let longest = if fastrand::u8(..50) == 0 { 500 } else { 5 };
    thread::sleep(Duration::from_micros(fastrand::u64(..longest * 1000)));
}

/// A consumer holds a bounded number of messages in memory, and reads on as it is worked down.
fn backlog_larger_than_the_look_ahead() {
    const BACKLOG: i32 = 150_000;
    let database = database("backlog");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '5 min'");
    client.create_consumer("s", "sparse", "filters => '{k.7}'");
    // One in a thousand of them for the second consumer.
    client.publish_numbers("s", BACKLOG, 1000);
    let mut next = HashMap::new();
    let mut count = 0;
    while count < BACKLOG {
        let batch = client.receive("c", 1000, seconds(10));
        assert!(!batch.is_empty(), "nothing more after {count}");
        for delivery in &batch {
            let last = next.entry(delivery.key.clone()).or_insert(0);
            assert!(delivery.seq > *last, "{delivery:?} after {last}");
            *last = delivery.seq;
        }
        count += client.ack("c", &ack_ids(&batch));
    }
    assert_eq!(client.receive("c", 1000, millis(300)).len(), 0);
    let sparse = client.drain("sparse", millis(500));
    assert_eq!(sparse.len() as i32, BACKLOG / 1000);
    assert!(sparse.is_sorted_by_key(|delivery| delivery.seq));
}

fn a_consumer_may_start_anywhere() {
    let database = database("starts");
    let mut client = database.connect();
    client.create("s", "all", "");
    let first = client.publish("s", "a", "1");
    thread::sleep(millis(20));
    let between: String = client.query_one("SELECT now()::text", &[]).unwrap().get(0);
    let second = client.publish("s", "b", "2");
    client.create_consumer("s", "from_seq", &format!("start_seq => {second}"));
    client.create_consumer("s", "from_time", &format!("start_time => '{between}'"));
    client.create_consumer("s", "new", "new_only => true");
    let third = client.publish("s", "c", "3");
    for (consumer, expected) in [
        ("all", vec![first, second, third]),
        ("from_seq", vec![second, third]),
        ("from_time", vec![second, third]),
        ("new", vec![third]),
    ] {
        assert_eq!(seqs(&client.drain(consumer, millis(300))), expected, "{consumer}");
    }
    client.batch_execute("SELECT sequin.rewind('all')").unwrap();
    assert_eq!(seqs(&client.drain("all", millis(300))), [first, second, third]);
    client.batch_execute(&format!("SELECT sequin.rewind('all', to_seq => {third})")).unwrap();
    assert_eq!(seqs(&client.drain("all", millis(300))), [third]);
    let redeliver = "SELECT sequin.redeliver('all', $1)";
    let count: i32 = client.query_one(redeliver, &[&vec![first, third]]).unwrap().get(0);
    assert_eq!(count, 2);
    assert_eq!(seqs(&client.drain("all", millis(300))), [first, third]);
}

/// Whatever is open meanwhile: the bound is the stream's own, also where a transaction publishes to more streams than
/// a session's entry has room for.
fn a_start_at_now_reads_nothing_of_what_is_long_committed() {
    const OLD: i32 = 5_000;
    const STREAMS: usize = 12;
    let database = database("starts_now");
    let (mut client, mut publisher) = (database.connect(), database.connect());
    let streams: Vec<String> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    for stream in &streams {
        client.execute("SELECT sequin.create_stream($1)", &[stream]).unwrap();
        client.publish_numbers(stream, OLD, 10);
    }
    let mut open = publisher.transaction().unwrap();
    let late: Vec<i64> = streams.iter().map(|stream| open.publish(stream, "late", "1")).collect();
    for stream in &streams {
        let mut transaction = client.transaction().unwrap();
        transaction.create_consumer(stream, &format!("new_{stream}"), "new_only => true");
        let read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
                    WHERE schemaname = 'sequin_stream' AND relname = $1";
        let read: i64 = transaction.query_one(read, &[stream]).unwrap().get(0);
        assert!(read < i64::from(OLD) / 10, "{read} rows of {stream} were read");
        transaction.commit().unwrap();
    }
    open.commit().unwrap();
    for (stream, late) in streams.iter().zip(late) {
        let after = client.publish(stream, "after", "1");
        let came = client.drain(&format!("new_{stream}"), millis(300));
        assert_eq!(seqs(&came), [late, after], "{stream}");
    }
}
