//! Publishers and workers on one stream, and what must hold for them whatever happens meanwhile.
//!
//! A worker notes each message in table `processed`, in the transaction that acks it. So the database itself says what
//! was acked, at any moment that a crash, a dump or a failover may pick; and its primary key refuses a second time.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use postgres::{Client, Error};

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::others::{Done, while_others};
use sequin_testkit::cluster::{Database, wait_until};

/// Of stream s: one ordered, one not.
pub const CONSUMERS: [&str; 2] = ["ordered", "unordered"];

/// Short, so that what a lost worker held comes again within the test; long enough for a busy machine.
const ACK_WAIT: Duration = seconds(2);

/// Between two steps of a publisher: the workers are to keep up.
const PACE: Duration = millis(5);

/// Far above what the rest of a load takes.
const DEADLINE: Duration = seconds(40);

/// Stream s with both consumers, and the table of what was processed.
pub fn prepare(client: &mut Client) {
    let ack_wait = format!("ack_wait => '{} s'", ACK_WAIT.as_secs());
    client.create("s", "ordered", &ack_wait);
    client.create_consumer("s", "unordered", &format!("ordered => false, {ack_wait}"));
    client
        .batch_execute(
            "CREATE TABLE processed (consumer text, seq bigint, PRIMARY KEY (consumer, seq))",
        )
        .unwrap();
}

/// What clients were told.
#[derive(Default)]
pub struct Known {
    /// Committed, for certain.
    pub published: HashSet<i64>,
    /// Acked and committed, for certain: consumer and seq.
    pub processed: HashSet<(String, i64)>,
    /// All that have ever been handed out.
    pub ack_ids: HashSet<i64>,
    /// What has failed, by SQLSTATE; an empty one for a broken connection.
    pub failures: BTreeMap<String, Vec<Error>>,
}

impl Known {
    /// Sees that nothing has failed with another SQLSTATE.
    #[track_caller]
    pub fn assert_failed_only_with(&self, states: &[&str]) {
        let others = self.failures.iter().filter(|(state, _)| !states.contains(&state.as_str()));
        let others: Vec<_> = others.map(|(_, errors)| (errors.len(), &errors[0])).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    /// How many have failed with this SQLSTATE.
    pub fn failed_with(&self, state: &str) -> usize {
        self.failures.get(state).map_or(0, Vec::len)
    }
}

/// A load that runs.
#[derive(Default)]
pub struct Load {
    known: Mutex<Known>,
}

/// `payload` is the bytes of a message.
type Step = fn(&Load, &mut Client, payload: usize) -> Result<(), Error>;

/// The bytes of a message, where it doesn't matter.
pub const SMALL: usize = 100;

/// Runs `act` while publishers and workers do their work, each in a session of its own, until it is done or their
/// connections are broken. Returns what they know.
pub fn during<R>(database: &Database, payload: usize, act: impl FnOnce(&Load) -> R) -> (R, Known) {
    let load = Load::default();
    let worker: [Step; 2] =
        [|load, client, _| load.work(client, 0), |load, client, _| load.work(client, 1)];
    let steps: [Step; 7] = [
        Load::publish_one,
        Load::publish_many,
        Load::copy,
        worker[0],
        worker[0],
        worker[1],
        worker[1],
    ];
    // They are all there before anything happens to the server.
    let clients = steps.map(|_| Mutex::new(database.connect()));
    let work = |n: u64, done: &Done| {
        let n = n as usize - 1;
        load.keep_on(&mut clients[n].lock().unwrap(), payload, steps[n], done);
    };
    let result = while_others(steps.len() as u64, work, || act(&load));
    (result, load.known.into_inner().unwrap())
}

impl Load {
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Until this much more has been published, and processed by each consumer.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let done = |known: &Known| {
            let of = |name| known.processed.iter().filter(|(consumer, _)| consumer == name).count();
            CONSUMERS.map(of).into_iter().chain([known.published.len()]).min().unwrap_or(0)
        };
        let enough = done(&self.known()) + count;
        wait_until("the load goes on", DEADLINE, || done(&self.known()) >= enough);
    }

    fn keep_on(&self, client: &mut Client, payload: usize, step: Step, done: &Done) {
        while !done.is_set() && !client.is_closed() {
            if let Err(error) = step(self, client, payload) {
                let state = error.code().map(|state| state.code()).unwrap_or_default();
                let state = state.to_owned();
                self.known().failures.entry(state).or_default().push(error);
                thread::sleep(PACE);
            }
        }
    }

    fn publish_one(&self, client: &mut Client, payload: usize) -> Result<(), Error> {
        let seq = client.try_publish("s", &key(), &text(payload))?;
        self.known().published.insert(seq);
        thread::sleep(PACE);
        Ok(())
    }

    fn publish_many(&self, client: &mut Client, payload: usize) -> Result<(), Error> {
        let (keys, data): (Vec<String>, Vec<String>) =
            (0..10).map(|_| (key(), text(payload))).unzip();
        let publish = "SELECT sequin.publish_many('s', $1, $2::text[]::jsonb[])";
        let rows = client.query(publish, &[&keys, &data])?;
        self.known().published.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        thread::sleep(PACE);
        Ok(())
    }

    fn copy(&self, client: &mut Client, payload: usize) -> Result<(), Error> {
        let mut rows = String::new();
        for _ in 0..10 {
            let _ = writeln!(rows, "{}\t{}", key(), text(payload));
        }
        client.try_copy("s", &rows)?;
        thread::sleep(PACE);
        Ok(())
    }

    /// Receives, gives some back, and acks the others.
    fn work(&self, client: &mut Client, consumer: usize) -> Result<(), Error> {
        let consumer = CONSUMERS[consumer];
        let held = client.try_receive(consumer, fastrand::i32(1..=30), millis(200))?;
        self.note_ack_ids(&held);
        let (back, rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|_| fastrand::u8(..10) == 0);
        client.try_nack(consumer, &ack_ids(&back))?;
        if process(client, consumer, &rest)? {
            let done = rest.iter().map(|delivery| (consumer.into(), delivery.seq));
            self.known().processed.extend(done);
        }
        Ok(())
    }

    #[track_caller]
    fn note_ack_ids(&self, held: &[Delivery]) {
        let mut known = self.known();
        for delivery in held {
            assert!(known.ack_ids.insert(delivery.ack_id), "handed out twice: {delivery:?}");
        }
    }
}

fn key() -> String {
    format!("k.{}", fastrand::u32(..100))
}

/// JSON text that compression doesn't make much shorter.
fn text(payload: usize) -> String {
    let text: String = (0..payload).map(|_| fastrand::alphanumeric()).collect();
    format!("\"{text}\"")
}

/// Acks and notes these deliveries, all or none: false if a lease has ended, and the work is somebody else's now.
fn process(client: &mut Client, consumer: &str, held: &[Delivery]) -> Result<bool, Error> {
    let mut transaction = client.transaction()?;
    let all = transaction.try_ack(consumer, &ack_ids(held))? as usize == held.len();
    if !all {
        transaction.rollback()?;
        return Ok(false);
    }
    let note = "INSERT INTO processed SELECT $1, unnest($2::bigint[])";
    transaction.execute(note, &[&consumer, &seqs(held)])?;
    transaction.commit()?;
    Ok(true)
}

/// Works off what is left in this database, and sees that nothing that was committed is lost, that nothing acked comes
/// again, that the order per key holds, and that no ack_id comes twice.
#[track_caller]
pub fn settle(client: &mut Client, known: &Known) {
    let published = published(client);
    let lost: Vec<_> = known.published.difference(&published).collect();
    assert!(lost.is_empty(), "published and committed, and lost: {lost:?}");
    let mut used = known.ack_ids.clone();
    for consumer in CONSUMERS {
        let mut processed = processed(client, consumer);
        let is_its = |(of, _): &&(String, i64)| of == consumer;
        let undone =
            known.processed.iter().filter(is_its).find(|(_, seq)| !processed.contains(seq));
        assert_eq!(undone, None, "acked and committed, and undone");
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        wait_until(&format!("all comes to {consumer}"), DEADLINE, || {
            let held = client.receive(consumer, 1000, millis(300));
            for delivery in &held {
                assert!(used.insert(delivery.ack_id), "ack_id used before: {delivery:?}");
                let is_new = !processed.contains(&delivery.seq);
                assert!(is_new, "{consumer}: acked before: {delivery:?}");
                let before = last.insert(delivery.key.clone(), delivery.seq).unwrap_or(0);
                let in_order = consumer == "unordered" || before <= delivery.seq;
                assert!(in_order, "{consumer}: {delivery:?} after {before}");
            }
            // On a machine that stands still meanwhile, their leases may end: then they come again.
            if process(client, consumer, &held).unwrap() {
                processed.extend(seqs(&held));
            }
            processed.len() >= published.len()
        });
        assert_eq!(processed, published, "of {consumer}");
        assert_eq!(client.receive(consumer, 1000, millis(300)).len(), 0, "{consumer}: too many");
        assert_eq!(client.in_flight(consumer), 0);
    }
}

/// The seqs in the stream.
pub fn published(client: &mut Client) -> HashSet<i64> {
    seqs_of(client, "SELECT seq FROM sequin_stream.s")
}

/// The seqs that a consumer has acked.
pub fn processed(client: &mut Client, consumer: &str) -> HashSet<i64> {
    seqs_of(client, &format!("SELECT seq FROM processed WHERE consumer = '{consumer}'"))
}

fn seqs_of(client: &mut Client, query: &str) -> HashSet<i64> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
