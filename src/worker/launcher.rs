//! The launcher: keeps a dispatcher running in each database that has the extension, and in no other; a capturer for
//! each source that the dispatchers have entered in shared memory; and a janitor and a scheduler where there is work for them.
//!
//! It learns of a database from the commit of CREATE EXTENSION and from the first call in it. It also starts a
//! dispatcher in every database when it starts itself, and in each new one (CREATE DATABASE .. TEMPLATE copies the
//! extension): a dispatcher that finds no extension just ends.

use crate::pg::exec::catalog;
use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::shmem::Segment;
use crate::pg::shared::status::Status;
use crate::pg::shared::{capturers, session_entry};
use pgrx::pg_sys::Oid;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How often to look for databases that are new.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The same, while there are more new databases than free entries.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Waits between starts of a process that keeps failing: from the first to the last of these, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A process that ran this long counts as started, even if it has failed since.
const SETTLED: Duration = Duration::from_secs(10);

/// How long a started process may take to show up in shared memory before it counts as failed.
const STARTING: Duration = Duration::from_secs(5);

/// A process that is to run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Dispatcher(Oid),
    /// Of this kind.
    Helper(Oid, &'static str),
    /// Of a source in a database.
    Capturer(Oid, i32),
}

/// What the launcher remembers of starting one.
struct Attempt {
    at: Instant,
    pause: Duration,
}

#[derive(Default)]
struct Attempts(HashMap<Job, Attempt>);

/// Runs until the server shuts down.
pub fn run(segment: &'static Segment) {
    let mut attempts = Attempts::default();
    let mut known: HashSet<Oid> = HashSet::new();
    let mut look_at = Instant::now();
    while !process::must_end() {
        if look_at <= Instant::now() {
            look_at = Instant::now() + look_for_databases(segment, &mut known);
        }
        let again = [
            start_dispatchers(segment, &mut attempts),
            start_helpers(segment, &mut attempts),
            start_capturers(&mut attempts),
            Some(look_at.saturating_duration_since(Instant::now())),
        ];
        attempts.0.retain(|_, last| last.at.elapsed() < last.pause + SETTLED);
        process::wait(again.into_iter().flatten().min());
    }
}

/// Enables an entry for each database that is new to the launcher, so that a dispatcher finds out whether it has the
/// extension. Frees the entries of databases that are gone. Returns when to look again.
fn look_for_databases(segment: &'static Segment, known: &mut HashSet<Oid>) -> Duration {
    let Ok(all) = process::transaction(|| Ok(catalog::databases())) else { return LOOK_EVERY };
    known.retain(|database| all.contains(database));
    // An entry can be reused as soon as the dispatcher has found no extension.
    let new = all.iter().copied().filter(|database| !known.contains(database));
    let (asked, left): (Vec<Oid>, Vec<Oid>) =
        new.partition(|&database| Database::find_or_add(database).is_some());
    known.extend(asked);
    let is_gone =
        |oid: Oid| oid != Oid::INVALID && !all.contains(&oid) && database_name(oid) == Ok(None);
    for entry in segment.databases().iter().filter(|entry| is_gone(entry.oid())) {
        entry.free();
    }
    for (_, entry) in capturers::all().filter(|(_, entry)| is_gone(entry.database())) {
        entry.release(true);
    }
    if left.is_empty() {
        return LOOK_EVERY;
    }
    if segment.databases().iter().any(Database::is_asking) {
        return LOOK_AGAIN;
    }
    segment.launcher.set_error("too many databases: raise sequin.max_databases");
    LOOK_EVERY
}

fn database_name(database: Oid) -> Result<Option<String>, String> {
    process::transaction(|| Ok(catalog::database_name(database)))
}

/// False for a database whose workers would be refused, each with a FATAL error in the server's log.
fn accepts_connections(database: Oid) -> bool {
    process::transaction(|| Ok(catalog::accepts_connections(database))) != Ok(Some(false))
}

/// Starts the dispatchers that are enabled and not running. Returns when to try again, if anything failed.
fn start_dispatchers(segment: &'static Segment, attempts: &mut Attempts) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    for entry in segment.databases() {
        let oid = entry.oid();
        if oid == Oid::INVALID || !entry.is_enabled() || entry.dispatcher.pid() != 0 {
            continue;
        }
        let start = |name: &str| match process::start_in_database("dispatcher", oid, name) {
            Some(_) => Ok(()),
            None => Err(format!("a dispatcher for {name}")),
        };
        let job = Job::Dispatcher(oid);
        let rest = attempts.start(job, &entry.dispatcher, oid, start, || entry.free());
        again = shorter(again, rest);
    }
    again
}

/// Starts the janitors and schedulers that are wanted and not running. Returns when to try again, if anything failed.
fn start_helpers(segment: &'static Segment, attempts: &mut Attempts) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    for entry in segment.databases() {
        let oid = entry.oid();
        // Where there is no dispatcher yet, it is not known whether the database has the extension.
        if oid == Oid::INVALID || !entry.has_settled() {
            continue;
        }
        for (kind, helper) in entry.helpers() {
            if !helper.is_wanted() || helper.status.pid() != 0 {
                continue;
            }
            let start = |name: &str| match process::start_in_database(kind, oid, name) {
                Some(_) => Ok(()),
                None => Err(format!("a {kind} for {name}")),
            };
            let (job, gone) = (Job::Helper(oid, kind), || helper.dismiss());
            again = shorter(again, attempts.start(job, &helper.status, oid, start, gone));
        }
    }
    again
}

/// Starts the capturers that are enabled and not running. Returns when to try again, if anything failed.
fn start_capturers(attempts: &mut Attempts) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    for (number, entry) in capturers::all().filter(|(_, entry)| entry.status.pid() == 0) {
        if !entry.is_enabled() {
            entry.release(false);
            continue;
        }
        let oid = entry.database();
        let start = |name: &str| {
            let name = format!("source {} of {name}", entry.source());
            match process::start_capturer(number, &name) {
                Some(_) => Ok(()),
                None => Err(format!("a capturer for {name}")),
            }
        };
        let job = Job::Capturer(oid, entry.source());
        let rest = attempts.start(job, &entry.status, oid, start, || entry.release(true));
        again = shorter(again, rest);
    }
    again
}

fn shorter(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl Attempts {
    /// Starts a process in a database, if it may be started now. `start` returns a name of what it could not start.
    /// `gone` is called if there is no such database any more. Returns when to look again.
    fn start(
        &mut self,
        job: Job,
        status: &Status,
        database: Oid,
        start: impl FnOnce(&str) -> Result<(), String>,
        gone: impl FnOnce(),
    ) -> Duration {
        if !accepts_connections(database) {
            // When it accepts connections again, the first session that waits for the dispatcher wakes the launcher.
            status.set_error("the database accepts no connections");
            return LOOK_EVERY;
        }
        let rest = self.due(job, status, database);
        if !rest.is_zero() {
            return rest;
        }
        match database_name(database) {
            Ok(Some(name)) => {
                if let Err(what) = start(&name) {
                    status.set_error("no free worker process: raise max_worker_processes");
                    pgrx::warning!("sequin cannot start {what}: raise max_worker_processes");
                }
            }
            Ok(None) => gone(),
            Err(error) => status.set_error(&error),
        }
        STARTING
    }

    /// After which time the process may be started. Zero means now, and is noted as an attempt. If the process ends
    /// soon and not cleanly, the pause before the next attempt is twice as long.
    fn due(&mut self, job: Job, status: &Status, database: Oid) -> Duration {
        if status.take_exited_cleanly() {
            self.0.remove(&job);
        }
        if session_entry::is_suspended(database) {
            return FIRST_PAUSE;
        }
        let now = Instant::now();
        let pause = match self.0.get(&job) {
            Some(last) => {
                let rest = (last.at + last.pause).saturating_duration_since(now);
                if !rest.is_zero() {
                    return rest;
                }
                (last.pause * 2).min(LAST_PAUSE)
            }
            None => FIRST_PAUSE,
        };
        self.0.insert(job, Attempt { at: now, pause });
        Duration::ZERO
    }
}
