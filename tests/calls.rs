//! The SQL functions as Rust calls, for a client as for a transaction of it.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error, GenericClient, Row};

use sequin_testkit::cluster::{Database, wait_until};
use sequin_testkit::process::succeed;

/// One row of `sequin.receive`; data as its JSON text.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub ack_id: i64,
    pub seq: i64,
    pub key: String,
    pub data: String,
    pub deliver_count: i32,
}

impl From<Row> for Delivery {
    fn from(row: Row) -> Self {
        Self {
            ack_id: row.get("ack_id"),
            seq: row.get("seq"),
            key: row.get("key"),
            data: row.get("data"),
            deliver_count: row.get("deliver_count"),
        }
    }
}

pub fn ack_ids(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.ack_id).collect()
}

pub fn seqs(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.seq).collect()
}

/// Those that may fail where a test kills things are `try_`.
pub trait Calls: GenericClient + Sized {
    /// A stream, and a consumer of all of it. `settings` are further arguments, as SQL: `ack_wait => '1 s'`.
    #[track_caller]
    fn create(&mut self, stream: &str, consumer: &str, settings: &str) {
        self.execute("SELECT sequin.create_stream($1)", &[&stream]).unwrap();
        self.create_consumer(stream, consumer, settings);
    }

    #[track_caller]
    fn create_consumer(&mut self, stream: &str, consumer: &str, settings: &str) {
        let comma = if settings.is_empty() { "" } else { ", " };
        self.batch_execute(&format!(
            "SELECT sequin.create_consumer('{stream}', '{consumer}'{comma}{settings})"
        ))
        .unwrap();
    }

    #[track_caller]
    fn publish(&mut self, stream: &str, key: &str, data: &str) -> i64 {
        self.try_publish(stream, key, data).unwrap()
    }

    fn try_publish(&mut self, stream: &str, key: &str, data: &str) -> Result<i64, Error> {
        let row = self
            .query_one("SELECT sequin.publish($1, $2, $3::text::jsonb)", &[&stream, &key, &data])?;
        Ok(row.get(0))
    }

    /// Publishes by COPY, from a file: rust-postgres loses the error, and the session, of a COPY FROM STDIN that is
    /// refused before it has read a row (its issue #789). A row is a key, a tab, and the data.
    fn try_copy(&mut self, stream: &str, rows: &str) -> Result<(), Error> {
        let file = RowsFile::new(rows);
        let file = file.0.display();
        self.batch_execute(&format!("COPY sequin_stream.{stream} (key, data) FROM '{file}'"))
    }

    /// Publishes messages 1 to `count` with the keys k.1 to k.`keys` in turn; the data is the number.
    #[track_caller]
    fn publish_numbers(&mut self, stream: &str, count: i32, keys: i32) {
        self.execute(
            &format!(
                "INSERT INTO sequin_stream.{stream} (key, data)
                 SELECT 'k.' || (n - 1) % $2 + 1, to_jsonb(n) FROM generate_series(1, $1) n"
            ),
            &[&count, &keys],
        )
        .unwrap();
    }

    #[track_caller]
    fn receive(&mut self, consumer: &str, batch_size: i32, wait: Duration) -> Vec<Delivery> {
        self.try_receive(consumer, batch_size, wait).unwrap()
    }

    fn try_receive(
        &mut self,
        consumer: &str,
        batch_size: i32,
        wait: Duration,
    ) -> Result<Vec<Delivery>, Error> {
        let rows = self.query(
            "SELECT ack_id, seq, key, data::text, deliver_count
             FROM sequin.receive($1, $2, make_interval(secs => $3))",
            &[&consumer, &batch_size, &wait.as_secs_f64()],
        )?;
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Receives and acks until nothing more comes for a while; the deliveries in the order of their coming.
    #[track_caller]
    fn drain(&mut self, consumer: &str, quiet: Duration) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let batch = self.receive(consumer, 1000, quiet);
            if batch.is_empty() {
                return all;
            }
            assert_eq!(self.ack(consumer, &ack_ids(&batch)), batch.len() as i32);
            all.extend(batch);
        }
    }

    #[track_caller]
    fn ack(&mut self, consumer: &str, ack_ids: &[i64]) -> i32 {
        self.try_ack(consumer, ack_ids).unwrap()
    }

    fn try_ack(&mut self, consumer: &str, ack_ids: &[i64]) -> Result<i32, Error> {
        Ok(self.query_one("SELECT sequin.ack($1, $2)", &[&consumer, &ack_ids])?.get(0))
    }

    #[track_caller]
    fn nack(&mut self, consumer: &str, ack_ids: &[i64]) -> i32 {
        self.try_nack(consumer, ack_ids).unwrap()
    }

    fn try_nack(&mut self, consumer: &str, ack_ids: &[i64]) -> Result<i32, Error> {
        Ok(self.query_one("SELECT sequin.nack($1, $2)", &[&consumer, &ack_ids])?.get(0))
    }

    /// How many deliveries are in flight, by `sequin.in_flight`.
    #[track_caller]
    fn in_flight(&mut self, consumer: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM sequin.in_flight('{consumer}')"))
    }

    /// The one bigint that a query returns.
    #[track_caller]
    fn number(&mut self, query: &str) -> i64 {
        self.query_one(query, &[]).unwrap().get(0)
    }

    /// Of the only consumer. While no dispatcher runs, it is not known.
    #[track_caller]
    fn acked_total(&mut self) -> i64 {
        let mut total = None;
        wait_until("the dispatcher tells", seconds(60), || {
            let query = "SELECT acked_total FROM sequin.consumer_stats";
            total = self.query_one(query, &[]).unwrap().get(0);
            total.is_some()
        });
        total.unwrap_or_default()
    }

    #[track_caller]
    fn backend_pid(&mut self) -> i32 {
        self.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0)
    }

    /// Whether this backend is within a call of `receive` that waits: its query runs, and is not on the CPU.
    #[track_caller]
    fn is_waiting(&mut self, pid: i32) -> bool {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'
                     AND query LIKE '%sequin.receive%' AND wait_event IS NOT NULL
                     AND wait_event <> 'ClientRead'";
        self.query_one(query, &[&pid]).unwrap().get::<_, i64>(0) == 1
    }

    /// Ends the dispatcher of this database, and returns once there is another that answers.
    #[track_caller]
    fn restart_dispatcher(&mut self) {
        let find = "SELECT coalesce(max(pid), 0)::bigint FROM sequin.workers
                    WHERE process = 'dispatcher' AND database = current_database()";
        let mut old = 0;
        wait_until("a dispatcher works", seconds(30), || {
            old = self.number(find);
            old != 0
        });
        self.terminate(old as i32);
        wait_until("a new dispatcher works", seconds(30), || {
            let new = self.number(find);
            new != 0 && new != old
        });
        self.number("SELECT count(*) FROM sequin.consumer_stats");
    }

    #[track_caller]
    fn terminate(&mut self, pid: i32) {
        self.execute("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    }
}

impl<C: GenericClient + Sized> Calls for C {}

/// What a receiver of consumer c gets that waits already, in its session's first call, while `act` runs; and how
/// long after the beginning of that it gets it.
pub fn answer_to_waiter(
    database: &Database,
    act: impl FnOnce(),
) -> (Result<Vec<Delivery>, Error>, Duration) {
    let (mut waiter, mut observer) = (database.connect(), database.connect());
    let pid = waiter.backend_pid();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let answer = waiter.try_receive("c", 10, seconds(30));
            (answer, Instant::now())
        });
        let waiting_now =
            "SELECT coalesce(waiting, 0) FROM sequin.consumer_stats WHERE consumer = 'c'";
        wait_until("the receiver waits", seconds(30), || {
            observer.is_waiting(pid) && observer.number(waiting_now) == 1
        });
        let begun = Instant::now();
        act();
        let (answer, at) = waiting.join().unwrap();
        (answer, at.saturating_duration_since(begun))
    })
}

/// The SQLSTATE of what must have failed; empty where the connection broke.
#[track_caller]
pub fn sqlstate<T: Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("this was to fail");
    error.code().map(|state| state.code().into()).unwrap_or_default()
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A file for one COPY, removed with its value.
struct RowsFile(PathBuf);

impl RowsFile {
    fn new(rows: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sequin-test-{}-rows-{number}", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, rows).unwrap();
        Self(file)
    }
}

impl Drop for RowsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Restores a dump of one database into another.
#[track_caller]
pub fn copy_by_dump(from: &Database, to: &Database, options: &[&str]) {
    let mut dump = from.cluster.client_program("pg_dump");
    let mut dump = dump.args(options).arg(&from.name).stdout(Stdio::piped()).spawn().unwrap();
    let mut restore = to.cluster.client_program("psql");
    restore.args(["-qXv", "ON_ERROR_STOP=1", "-d", &to.name]).stdin(dump.stdout.take().unwrap());
    succeed(restore.stdout(Stdio::null()));
    assert!(dump.wait().unwrap().success());
}

/// Waits until all is counted that sessions and workers which are gone have read. PostgreSQL 14 has a process that counts,
/// in the order in which it was told.
pub fn count_all(database: &Database, client: &mut Client) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let marker = format!("marker_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    in_a_session(database, |session| {
        session.batch_execute(&format!("CREATE TABLE {marker} (); SELECT FROM {marker}")).unwrap();
    });
    let scans = format!(
        "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_all_tables WHERE relname = '{marker}'"
    );
    wait_until("all is counted", seconds(60), || client.number(&scans) > 0);
}

/// Runs `act` in a session of its own, which is gone when this returns.
pub fn in_a_session(database: &Database, act: impl FnOnce(&mut Client)) {
    let mut client = database.connect();
    let pid = client.backend_pid();
    act(&mut client);
    drop(client);
    let mut observer = database.connect();
    let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the session is gone", seconds(30), || observer.number(&is_there) == 0);
}
