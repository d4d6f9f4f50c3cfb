//! The janitor of a database: forgets dedup_ids, and gives messages back that are not to be kept any longer. It waits for no
//! user's lock for longer than [`LOCK_TIMEOUT`], as others may wait behind it, and ends when there is nothing left to do.

mod dedup;
mod retention;

use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use std::time::{Duration, Instant};

/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// After which time an error is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// How long there must have been nothing to do before the process ends.
const IDLE: Duration = Duration::from_secs(30);

const LOCK_TIMEOUT: &str = "5ms";

/// Runs until there is nothing to do, or the extension or the server goes away.
pub fn run(database: &'static Database) {
    process::set_defaults();
    process::set("lock_timeout", LOCK_TIMEOUT);
    // From here on an end, such as one by a signal, is no failure.
    database.janitor.status.exited_cleanly();
    let mut tasks: [Task; 2] = [
        Task::new(Box::new(dedup::Dedup::default())),
        Task::new(Box::new(retention::Retention::new(database))),
    ];
    while !session_entry::is_suspended(database.oid()) {
        let mut errors = Vec::new();
        for task in &mut tasks {
            errors.extend(task.run_if_due());
        }
        let error = errors.join("; ");
        if !error.is_empty() {
            pgrx::warning!("sequin janitor: {error}");
        }
        if tasks.iter().all(|task| task.error.is_none()) {
            database.janitor.status.set_error("");
        } else if !error.is_empty() {
            database.janitor.status.set_error(&error);
        }
        if tasks.iter().all(Task::is_idle) {
            database.janitor.dismiss();
            return;
        }
        let next = tasks.iter().map(|task| task.due).min();
        let pause = next.map_or(LONGEST_PAUSE, |due| due.saturating_duration_since(Instant::now()));
        process::wait(Some(pause));
    }
}

/// What the janitor does in turns.
trait Work {
    /// Does what is due, and returns after which time to look again; `None` if there was nothing to do.
    fn round(&mut self) -> Result<Option<Duration>, String>;
}

struct Task {
    work: Box<dyn Work>,
    due: Instant,
    /// When there was something to do.
    busy_at: Option<Instant>,
    /// Why its last round has failed, if it has.
    error: Option<String>,
}

impl Task {
    fn new(work: Box<dyn Work>) -> Task {
        Task { work, due: Instant::now(), busy_at: None, error: None }
    }

    /// Returns a new error.
    fn run_if_due(&mut self) -> Option<String> {
        if Instant::now() < self.due {
            return None;
        }
        let round = self.work.round();
        let now = Instant::now();
        if !matches!(round, Ok(None)) {
            self.busy_at = Some(now);
        }
        let pause = match &round {
            Ok(pause) => pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE),
            Err(_) => AFTER_ERROR,
        };
        self.due = now + pause;
        self.error = round.err();
        self.error.clone()
    }

    fn is_idle(&self) -> bool {
        self.error.is_none() && self.busy_at.is_none_or(|at| at.elapsed() > IDLE)
    }
}
