//! Has the tables of dedup_ids take turns, and empties those whose ids nobody needs any more. When it is to do which is
//! `sequin_engine::dedup`.

use super::Work;
use crate::pg;
use crate::pg::exec::catalog;
use crate::pg::exec::open_transactions::OpenTransactions;
use crate::pg::process;
use crate::store::dedup::{self, Group};
use sequin_engine::dedup::{Facts, Step, Turn, steps};
use sequin_engine::settings::Micros;
use std::time::Duration;

/// The longest and the shortest pause between two rounds.
const LONGEST_PAUSE: Micros = 10_000_000;
const SHORTEST_PAUSE: Micros = 100_000;

#[derive(Default)]
pub struct Dedup {
    /// For each group, the transactions that were open when the turn of its closing table had begun.
    awaited: Vec<Option<OpenTransactions>>,
}

impl Work for Dedup {
    fn round(&mut self) -> Result<Option<Duration>, String> {
        let Some(groups) = process::transaction(|| self.look())? else { return Ok(None) };
        let (mut pause, mut is_busy) = (LONGEST_PAUSE, false);
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
                is_busy = true;
                pause = pause.min(group.window / 8);
            }
        }
        let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        Ok(is_busy.then_some(Duration::from_micros(pause.cast_unsigned())))
    }
}

impl Dedup {
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
