//! The janitor of a database: has the tables of dedup_ids take turns, and empties those whose ids nobody needs any more.
//! When it is to do which is `sequin_engine::dedup`. It waits for no lock, and ends when there is nothing left to do.

use crate::pg;
use crate::pg::exec::catalog;
use crate::pg::exec::open_transactions::OpenTransactions;
use crate::pg::process;
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::store::dedup::{self, Group};
use sequin_engine::dedup::{Facts, Step, Turn, steps};
use sequin_engine::settings::Micros;
use std::time::{Duration, Instant};

/// The longest and the shortest pause between two rounds.
const LONGEST_PAUSE: Micros = 10_000_000;
const SHORTEST_PAUSE: Micros = 100_000;

/// After which time an error is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// How long there must have been nothing to do before the process ends.
const IDLE: Duration = Duration::from_secs(30);

/// Runs until there is nothing to do, or the extension or the server goes away.
pub fn run(database: &'static Database) {
    process::set_defaults();
    process::set("lock_timeout", "1s");
    // From here on an end, such as one by a signal, is no failure.
    database.janitor.status.exited_cleanly();
    let mut janitor = Janitor { database, awaited: Vec::new(), busy_at: None };
    while !session_entry::is_suspended(database.oid()) {
        let pause = match janitor.round() {
            Ok(Some(pause)) => {
                database.janitor.status.set_error("");
                pause
            }
            Ok(None) => return,
            Err(error) => {
                database.janitor.status.set_error(&error);
                pgrx::warning!("sequin janitor: {error}");
                AFTER_ERROR
            }
        };
        process::wait(Some(pause));
    }
}

struct Janitor {
    database: &'static Database,
    /// For each group, the transactions that were open when the turn of its closing table had begun.
    awaited: Vec<Option<OpenTransactions>>,
    /// When there was something to do; `None` if there has been nothing.
    busy_at: Option<Instant>,
}

impl Janitor {
    /// Does what is due, and returns after which time to look again; `None` when the process should end.
    fn round(&mut self) -> Result<Option<Duration>, String> {
        let Some(groups) = process::transaction(|| self.look())? else {
            self.database.janitor.dismiss();
            return Ok(None);
        };
        let mut pause = LONGEST_PAUSE;
        for (n, group) in groups.iter().enumerate() {
            for step in self.steps(n, group) {
                carry_out(step)?;
                if matches!(step, Step::Open { .. }) {
                    // Those that are awaited are looked for in a transaction after the one that has opened the table.
                    self.awaited[n] = None;
                    pause = 0;
                }
            }
            if is_in_use(group) {
                self.busy_at = Some(Instant::now());
                pause = pause.min(group.window / 8);
            }
        }
        if self.busy_at.is_none_or(|at| at.elapsed() > IDLE) {
            self.database.janitor.dismiss();
            return Ok(None);
        }
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        Ok(Some(Duration::from_micros(pause.cast_unsigned())))
    }

    /// The tables as they are; `None` without the extension.
    fn look(&mut self) -> crate::error::Result<Option<Vec<Group>>> {
        // A schema of version 0.1.0 has no such tables.
        if catalog::extension().is_none() || catalog::own_table(c"dedup_tables").is_none() {
            return Ok(None);
        }
        catalog::check_member(c"dedup_tables")?;
        let groups = dedup::groups()?;
        self.awaited.resize_with(groups.len(), || None);
        for (group, awaited) in groups.iter().zip(&mut self.awaited) {
            if group.tables.iter().any(|table| table.turn == Turn::Closing) {
                awaited.get_or_insert_with(OpenTransactions::now).look();
            } else {
                *awaited = None;
            }
        }
        Ok(Some(groups))
    }

    fn steps(&self, n: usize, group: &Group) -> Vec<Step> {
        let have_all_ended = self.awaited[n].as_ref().is_some_and(OpenTransactions::have_all_ended);
        let (window, has_ids) = (group.window, group.has_ids);
        steps(&group.tables, &Facts { now: pg::now(), window, has_ids, have_all_ended })
    }
}

/// Whether a group has ids, or had some.
fn is_in_use(group: &Group) -> bool {
    let is_used = |turn| matches!(turn, Turn::Closing | Turn::Closed);
    group.has_ids || group.tables.iter().any(|table| is_used(table.turn))
}

fn carry_out(step: Step) -> Result<(), String> {
    let now = pg::now();
    process::transaction(|| match step {
        Step::Open { number, instead_of } => {
            dedup::set_turn(number, Turn::Current, now)?;
            dedup::set_turn(instead_of, Turn::Closing, now)
        }
        Step::Close(number) => dedup::set_turn(number, Turn::Closed, now),
        Step::Empty(number) => dedup::empty(number, now),
    })
}
