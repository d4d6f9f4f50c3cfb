//! What a server suffers.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::Client;

use super::neighbour;
use super::recorder::Recorder;
use crate::calls::{millis, seconds, sqlstate};
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};
use sequin_testkit::process::{signal, stop};

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// kill -9 of a child of the postmaster, which then ends all others and begins anew.
    KillChild,
    KillServer,
    StopImmediate,
    StopFast,
    TerminateClients,
    CancelClients,
    TerminateWorkers,
    /// The dispatcher gets no CPU time for a while.
    StopDispatcher,
    /// The stream's table is somebody else's for a while.
    LockTable,
    /// The same, by a prepared transaction, which nobody's end takes back.
    Prepare,
    /// Many rows are inserted and rolled back: dead entries of the index, which hold nothing.
    RollBackMany,
    /// Many rows are inserted and deleted in one transaction.
    DeleteMany,
    /// The stream gets limits, which keep everything: its table becomes a partitioned one the first time.
    Retain,
    /// The other database is dropped, and made again.
    DropDatabase,
    /// Nothing happens, and little is published: only now can an empty answer be judged.
    Calm,
}

pub const FAULTS: [Fault; 15] = [
    Fault::KillChild,
    Fault::KillServer,
    Fault::StopImmediate,
    Fault::StopFast,
    Fault::TerminateClients,
    Fault::CancelClients,
    Fault::TerminateWorkers,
    Fault::StopDispatcher,
    Fault::LockTable,
    Fault::Prepare,
    Fault::RollBackMany,
    Fault::DeleteMany,
    Fault::Retain,
    Fault::DropDatabase,
    Fault::Calm,
];

/// How long the faults take that take their time: all of the issue's, or less, so that a run of the tests ends.
#[derive(Clone, Copy)]
pub struct Durations {
    pub stopped: Duration,
    pub calm: Duration,
}

/// How long a server may take to come back, on a busy machine.
const BACK: Duration = seconds(60);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Fault {
    /// Whether the dispatcher's last journal rows may be lost.
    pub fn is_crash(self) -> bool {
        matches!(self, Fault::KillChild | Fault::KillServer | Fault::StopImmediate)
    }

    /// Returns when it is over, and the server there again.
    pub fn inject(
        self,
        database: &Database,
        recorder: &Recorder,
        durations: Durations,
        rng: &mut Rng,
    ) {
        let cluster = database.cluster;
        match self {
            Fault::KillChild => kill_child(database),
            Fault::KillServer => {
                cluster.kill_9();
                cluster.boot();
            }
            Fault::StopImmediate => {
                cluster.stop(Stop::Immediate);
                cluster.boot();
            }
            Fault::StopFast => cluster.restart(),
            Fault::TerminateClients => storm(database, rng, "terminate", CLIENTS),
            Fault::CancelClients => storm(database, rng, "cancel", CLIENTS),
            Fault::TerminateWorkers => storm(database, rng, "terminate", WORKERS),
            Fault::StopDispatcher => stop_dispatcher(database, durations.stopped),
            Fault::LockTable => lock_table(database, millis(rng.u64(100..2000))),
            Fault::Prepare => prepare(database, millis(rng.u64(100..2000))),
            Fault::RollBackMany => insert_many(database, "ROLLBACK"),
            Fault::DeleteMany => {
                insert_many(database, "DELETE FROM sequin_stream.load WHERE key = 'many'; COMMIT");
            }
            Fault::Retain => retain(database, rng.u32(1..100)),
            Fault::DropDatabase => neighbour::make(cluster),
            Fault::Calm => calm(recorder, durations.calm),
        }
    }
}

const CLIENTS: &str = "application_name = 'black_box' AND random() < 0.5";
const WORKERS: &str = "backend_type LIKE 'sequin%'";

/// Many times in a row: the next one meets who has only just come back.
fn storm(database: &Database, rng: &mut Rng, what: &str, whom: &str) {
    const TIMES: u32 = 10;
    let mut admin = connect(database.cluster);
    let name = &database.name;
    for _ in 0..TIMES {
        let command = format!(
            "SELECT pg_{what}_backend(pid) FROM pg_stat_activity
             WHERE coalesce(datname, '{name}') = '{name}' AND pid <> pg_backend_pid() AND {whom}"
        );
        admin.batch_execute(&command).unwrap();
        thread::sleep(millis(rng.u64(0..200)));
    }
}

/// The launcher of all the processes that there are.
fn kill_child(database: &Database) {
    let mut admin = connect(database.cluster);
    let victim = "SELECT pid FROM pg_stat_activity
                  WHERE pid <> pg_backend_pid() AND pid IS NOT NULL ORDER BY random() LIMIT 1";
    let is_there = "SELECT FROM pg_stat_activity WHERE pid = $1";
    let mut is_over = false;
    while !is_over {
        let pid: i32 = admin.query_one(victim, &[]).unwrap().get(0);
        signal("KILL", &[pid as u32]);
        // What is killed has no time to leave the list. So one that does has ended by itself just before.
        wait_until("the postmaster has ended all", BACK, || match admin.query(is_there, &[&pid]) {
            Ok(rows) => rows.is_empty(),
            Err(_) => {
                is_over = true;
                true
            }
        });
    }
    connect(database.cluster);
}

fn stop_dispatcher(database: &Database, duration: Duration) {
    let mut admin = connect(database.cluster);
    let find = "SELECT pid FROM pg_stat_activity
                WHERE datname = $1 AND backend_type = 'sequin dispatcher'";
    let mut found = None;
    wait_until("there is a dispatcher", BACK, || {
        found = admin.query_opt(find, &[&database.name]).unwrap();
        found.is_some()
    });
    let pid: i32 = found.unwrap().get(0);
    stop(pid as u32);
    thread::sleep(duration);
    signal("CONT", &[pid as u32]);
}

/// At least until some empty answers have come that can be judged, however slow the machine is.
fn calm(recorder: &Recorder, duration: Duration) {
    const EMPTY: i64 = 30;
    recorder.set_calm(true);
    thread::sleep(duration);
    let before = recorder.empty();
    wait_until("workers have found nothing", BACK, || recorder.empty() - before >= EMPTY);
    recorder.set_calm(false);
}

const LOCK: &str = "LOCK TABLE sequin_stream.load IN ACCESS EXCLUSIVE MODE";

fn lock_table(database: &Database, duration: Duration) {
    let mut admin = connect_to(database.cluster, &database.name);
    admin.batch_execute(&format!("BEGIN; {LOCK}")).unwrap();
    thread::sleep(duration);
    admin.batch_execute("COMMIT").unwrap();
}

/// What sequin has to be told of can't be prepared; a lock can.
fn prepare(database: &Database, duration: Duration) {
    let mut admin = connect_to(database.cluster, &database.name);
    for call in ["sequin.pause_consumer('ordered')", "sequin.publish('load', 'never', '-1')"] {
        admin.batch_execute(&format!("BEGIN; SELECT {call}")).unwrap();
        let refused = admin.batch_execute("PREPARE TRANSACTION 'refused'");
        assert_eq!(sqlstate(refused), "0A000", "{call}");
        admin.batch_execute("ROLLBACK").unwrap();
    }
    admin.batch_execute(&format!("BEGIN; {LOCK}; PREPARE TRANSACTION 'lock'")).unwrap();
    drop(admin);
    thread::sleep(duration);
    let mut admin = connect_to(database.cluster, &database.name);
    admin.batch_execute("COMMIT PREPARED 'lock'").unwrap();
}

fn retain(database: &Database, hours: u32) {
    let mut admin = connect_to(database.cluster, &database.name);
    let alter = format!("SELECT sequin.alter_stream('load', retain_for => '{hours} hours')");
    admin.batch_execute(&alter).unwrap();
}

fn insert_many(database: &Database, end: &str) {
    const MANY: u32 = 200_000;
    let mut admin = connect_to(database.cluster, &database.name);
    let insert = format!(
        "BEGIN; INSERT INTO sequin_stream.load (key, data)
         SELECT 'many', '-1' FROM generate_series(1, {MANY})"
    );
    admin.batch_execute(&insert).unwrap();
    admin.batch_execute(end).unwrap();
}

fn connect(cluster: &Cluster) -> Client {
    connect_to(cluster, "postgres")
}

fn connect_to(cluster: &Cluster, database: &str) -> Client {
    let mut client = None;
    wait_until("the server is there", BACK, || {
        client = cluster.try_connect(database).ok();
        client.is_some()
    });
    client.unwrap()
}
