//! The scheduler of a database: publishes scheduled messages when they are due.
//!
//! It reads by index from the time up to which all is published. A transaction that commits later than the time it has
//! scheduled a message for takes it back to there: its commit notes that in shared memory (`Database::note_scheduled`). So
//! nothing is passed over, whatever the clock does, and what has been published, but is not vacuumed yet, is not read
//! again. A new scheduler begins at the beginning. It ends when nothing is left to be published.

use crate::pg;
use crate::pg::exec::catalog;
use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::store::schedules::{self, Place};
use sequin_engine::settings::Micros;
use std::time::Duration;

/// The most messages that are published in one transaction.
const BATCH: usize = 500;

/// The longest sleep: after a step of the wall clock, messages are due that were not.
const LONGEST_PAUSE: Micros = 5_000_000;

/// At least this time passes between two rounds, so that messages that are due one after the other share a transaction.
const PAUSE: Duration = Duration::from_millis(10);

/// After which time a message is tried again that can't be published now: first; later twice as long each time, up to the
/// longest sleep.
const HELD_UP: Micros = 100_000;

/// Before all times that can be scheduled: -infinity.
const EARLIEST: Micros = Micros::MIN;

/// After which time an error is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Runs until there is nothing to do, or the extension or the server goes away.
pub fn run(database: &'static Database) {
    process::set_defaults();
    // Others wait meanwhile.
    process::set("lock_timeout", "20ms");
    // See the statements in `store::schedules`.
    process::set_by_index();
    // From here on an end, such as one by a signal, is no failure.
    database.scheduler.status.exited_cleanly();
    let mut scheduler = Scheduler { database, position: 0, place: (0, 0), held_up: None, pause: 0 };
    scheduler.begin(EARLIEST);
    while !session_entry::is_suspended(database.oid()) {
        match scheduler.round() {
            Ok(Next::Now) => process::wait(Some(PAUSE)),
            Ok(Next::At(time)) => scheduler.sleep(time),
            Ok(Next::Never) if scheduler.ends() => return,
            Ok(Next::Never) => {}
            Err(error) => {
                database.scheduler.status.set_error(&error);
                pgrx::warning!("sequin scheduler: {error}");
                process::wait(Some(AFTER_ERROR));
            }
        }
    }
}

/// When there is something to do.
enum Next {
    Now,
    At(Micros),
    Never,
}

struct Scheduler {
    database: &'static Database,
    /// All that was to be published before this time is published, but for what a commit has noted since.
    position: Micros,
    /// How far a pass from there has come.
    place: Place,
    /// The time of the first message that the pass had to leave where it is.
    held_up: Option<Micros>,
    /// How long that waits for the next pass.
    pause: Micros,
}

impl Scheduler {
    /// Begins a pass.
    fn begin(&mut self, position: Micros) {
        self.position = position;
        self.place = (position, i64::MIN);
        self.held_up = None;
    }

    /// Goes on with the pass by one transaction.
    fn round(&mut self) -> Result<Next, String> {
        let noted = self.database.take_scheduled();
        if noted <= self.place.0 {
            self.begin(self.position.min(noted));
        }
        // A schema of version 0.1.0 has no such table.
        let is_there =
            || catalog::extension().is_some() && catalog::own_table(c"schedules").is_some();
        if !process::transaction(|| Ok(is_there()))? {
            return Ok(Next::Never);
        }
        let now = pg::now();
        let round = process::transaction(|| {
            catalog::check_member(c"schedules")?;
            schedules::publish_due(self.place, now, BATCH)
        });
        let round = round.inspect_err(|_| self.begin(self.position))?;
        self.database.scheduler.status.set_error("");
        self.held_up = self.held_up.or(round.held_up);
        if let Some(place) = round.upto {
            self.place = place;
            return Ok(Next::Now);
        }
        let held_up = self.held_up;
        self.begin(held_up.unwrap_or(now));
        let next = process::transaction(|| schedules::next_after(now))?;
        self.pause = match held_up {
            Some(_) => (self.pause * 2).clamp(HELD_UP, LONGEST_PAUSE),
            None => 0,
        };
        Ok(match held_up {
            Some(_) => Next::At(next.unwrap_or(Micros::MAX).min(now + self.pause)),
            None => next.map_or(Next::Never, Next::At),
        })
    }

    fn sleep(&self, until: Micros) {
        if self.database.sleep_scheduler(until) {
            let rest = until.saturating_sub(pg::now()).clamp(0, LONGEST_PAUSE);
            process::wait(Some(Duration::from_micros(rest.cast_unsigned()).max(PAUSE)));
        }
        self.database.sleep_scheduler(Micros::MIN);
    }

    /// Whether the process may end: nothing has been scheduled meanwhile.
    fn ends(&self) -> bool {
        self.database.scheduler.dismiss();
        if self.database.sleep_scheduler(Micros::MAX) {
            return true;
        }
        self.database.scheduler.want();
        false
    }
}
