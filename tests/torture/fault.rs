//! What a server suffers.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::Client;

use crate::calls::{millis, seconds};
use crate::cluster::{Cluster, Database, Stop, signal, wait_until};

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
    /// Nothing happens: only now can an empty answer be judged.
    Calm,
}

pub const FAULTS: [Fault; 9] = [
    Fault::KillChild,
    Fault::KillServer,
    Fault::StopImmediate,
    Fault::StopFast,
    Fault::TerminateClients,
    Fault::CancelClients,
    Fault::TerminateWorkers,
    Fault::StopDispatcher,
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
    pub fn inject(self, database: &Database, durations: Durations, rng: &mut Rng) {
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
            Fault::Calm => thread::sleep(durations.calm),
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
    let pid: i32 = admin.query_one(victim, &[]).unwrap().get(0);
    signal("KILL", &[pid as u32]);
    wait_until("the postmaster has ended all", BACK, || admin.batch_execute("SELECT 1").is_err());
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
    signal("STOP", &[pid as u32]);
    thread::sleep(duration);
    signal("CONT", &[pid as u32]);
}

fn connect(cluster: &Cluster) -> Client {
    let mut client = None;
    wait_until("the server is there", BACK, || {
        client = cluster.try_connect("postgres").ok();
        client.is_some()
    });
    client.unwrap()
}
