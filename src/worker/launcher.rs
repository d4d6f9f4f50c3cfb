//! The launcher: keeps a dispatcher running in each database that has the extension, and in no other.
//!
//! It learns of a database from the commit of CREATE EXTENSION, from the first call in it, and by asking all
//! databases when it starts and when new ones appear (CREATE DATABASE .. TEMPLATE brings the extension along):
//! a dispatcher that finds no extension just leaves.

use crate::pg::database::Database;
use crate::pg::shmem::Segment;
use crate::pg::{catalog, process, slot};
use pgrx::pg_sys::Oid;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How often databases that have appeared by themselves are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Waits between starts of a dispatcher that keeps failing: from the first to the last of these, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A dispatcher that ran this long has not failed to start.
const SETTLED: Duration = Duration::from_secs(10);

/// How long a started process may take to show up in shared memory before it counts as failed.
const STARTING: Duration = Duration::from_secs(5);

/// What the launcher remembers of a database that is to have a dispatcher.
struct Attempt {
    at: Instant,
    pause: Duration,
}

/// Runs until the server shuts down.
pub fn run(segment: &'static Segment) {
    let mut attempts: HashMap<Oid, Attempt> = HashMap::new();
    let mut known: HashSet<Oid> = HashSet::new();
    let mut looked_at: Option<Instant> = None;
    while !process::must_end() {
        if looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            look_for_databases(segment, &mut known);
            looked_at = Some(Instant::now());
        }
        let pause = start_missing(segment, &mut attempts).unwrap_or(LOOK_EVERY);
        process::wait(Some(pause));
    }
}

/// Has each database that is new to the launcher asked whether it has the extension, and frees the entries of
/// databases that are gone.
fn look_for_databases(segment: &'static Segment, known: &mut HashSet<Oid>) {
    let Ok(all) = process::transaction(|| Ok(catalog::databases())) else { return };
    for &database in all.iter().filter(|database| !known.contains(database)) {
        match Database::find_or_add(database) {
            Some(entry) => entry.want(true),
            None => segment.launcher.set_error("too many databases: raise sequin.max_databases"),
        }
    }
    known.clear();
    known.extend(all);
    for entry in segment.databases() {
        let oid = entry.oid();
        if oid != Oid::INVALID && !known.contains(&oid) && !exists(oid) {
            entry.free();
        }
    }
}

fn exists(database: Oid) -> bool {
    process::transaction(|| Ok(catalog::database_name(database).is_some())).unwrap_or(true)
}

/// Starts the dispatchers that are wanted and not running. Returns when to try again, if anything failed.
fn start_missing(
    segment: &'static Segment,
    attempts: &mut HashMap<Oid, Attempt>,
) -> Option<Duration> {
    let mut again: Option<Duration> = None;
    for entry in segment.databases() {
        let oid = entry.oid();
        if oid == Oid::INVALID || !entry.is_wanted() || entry.dispatcher.pid() != 0 {
            continue;
        }
        if entry.dispatcher.take_left_well() {
            attempts.remove(&oid);
        }
        let rest = match attempts.get(&oid) {
            Some(last) => (last.at + last.pause).saturating_duration_since(Instant::now()),
            None => Duration::ZERO,
        };
        if slot::is_suspended(oid) {
            again = shorter(again, FIRST_PAUSE);
        } else if rest > Duration::ZERO {
            again = shorter(again, rest);
        } else {
            start(entry, oid, attempts);
            again = shorter(again, STARTING);
        }
    }
    attempts.retain(|&oid, last| Database::find(oid).is_some() || last.at.elapsed() < SETTLED);
    again
}

fn shorter(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

/// Starts one dispatcher. If it fails soon, the next attempt waits twice as long.
fn start(entry: &Database, oid: Oid, attempts: &mut HashMap<Oid, Attempt>) {
    let pause = match attempts.get(&oid) {
        Some(last) if last.at.elapsed() < last.pause + SETTLED => (last.pause * 2).min(LAST_PAUSE),
        _ => FIRST_PAUSE,
    };
    attempts.insert(oid, Attempt { at: Instant::now(), pause });
    let name = process::transaction(|| Ok(catalog::database_name(oid)));
    match name {
        Ok(Some(name)) => {
            if process::start_dispatcher(oid, &name).is_none() {
                entry.dispatcher.set_error("no free worker process: raise max_worker_processes");
                pgrx::warning!(
                    "sequin cannot start a dispatcher for database \"{name}\": raise max_worker_processes"
                );
            }
        }
        Ok(None) => entry.free(),
        Err(error) => entry.dispatcher.set_error(&error),
    }
}
