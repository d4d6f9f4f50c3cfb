//! Deduplication: in which tables the ids of messages are, and for how long.
//!
//! A few tables take turns, so that ids are forgotten by TRUNCATE, which leaves no dead rows. New ids go into the current
//! table. When another becomes the current one, transactions are open that write into the one before, or are about to: an
//! id that one of them has claimed must not be claimed anew. So until all of them have ended, that table is *closing*, and
//! every new id goes into both: the unique index of the closing one makes the second publisher wait. Then it is *closed*,
//! only read, and emptied when the window is over.
//!
//! The tables' turns bound the room that ids take. When an id may be used anew is decided for each id: its window begins
//! with the commit, which its row can't know, for the row has the time of the claim. In a short transaction the two are
//! the same. Long ones are noted: see [`Late`].

use crate::settings::Micros;

/// A commit so soon after the claim counts as the time of the claim.
pub const IN_TIME: Micros = 100_000;

/// The longest window of a stream, and the shortest.
pub const LONGEST_WINDOW: Micros = 7 * 86_400_000_000;
pub const SHORTEST_WINDOW: Micros = 1_000_000;

/// What a table of ids is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Empty, and nobody writes into it.
    Free,
    /// New ids go into it.
    Current,
    /// They go into it too.
    Closing,
    /// It is only read.
    Closed,
}

/// One of the tables that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub number: i16,
    pub turn: Turn,
    /// When that turn began.
    pub since: Micros,
}

/// What the tables' turns hang on.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub now: Micros,
    /// The longest window of the streams whose ids are in these tables.
    pub window: Micros,
    /// The current table has ids.
    pub has_ids: bool,
    /// All transactions have ended that were open when the closing table's turn began.
    pub have_all_ended: bool,
}

/// A change of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This free table becomes the current one, and the current one closing.
    Open { number: i16, instead_of: i16 },
    /// The closing table is closed.
    Close(i16),
    /// The ids in this closed table are forgotten, and it is free.
    Empty(i16),
}

/// The next changes, each of which can be left out if something stands in its way.
pub fn steps(tables: &[Table], facts: &Facts) -> Vec<Step> {
    let find = |turn| tables.iter().find(move |table| table.turn == turn);
    let has_lasted = |table: &Table, time| facts.now.saturating_sub(table.since) >= time;
    let mut steps = Vec::new();
    let closed = tables.iter().filter(|table| table.turn == Turn::Closed);
    steps.extend(
        closed.filter(|t| has_lasted(t, facts.window + IN_TIME)).map(|t| Step::Empty(t.number)),
    );
    let closing = find(Turn::Closing);
    if let Some(closing) = closing.filter(|_| facts.have_all_ended) {
        steps.push(Step::Close(closing.number));
    }
    // Half a window each: with four tables, one is free when another is to be opened.
    if let (None, Some(free), Some(current)) = (closing, find(Turn::Free), find(Turn::Current))
        && facts.has_ids
        && has_lasted(current, facts.window / 2)
    {
        steps.push(Step::Open { number: free.number, instead_of: current.number });
    }
    steps
}

/// Transactions that have committed long after they had claimed ids: from the first such claim up to the last such
/// commit. Shared memory has it, so it is not known what was before the server's start.
#[derive(Debug)]
pub struct Late {
    first: Micros,
    last: Micros,
}

impl Late {
    /// Where there has been none.
    pub const NONE: Late = Late { first: Micros::MAX, last: Micros::MIN };

    /// Where nothing is known of the time before `now`.
    pub fn unknown_before(now: Micros) -> Late {
        Late { first: Micros::MIN, last: now }
    }

    /// A transaction has committed, visibly, that had claimed its first id at `claimed`.
    pub fn add(&mut self, claimed: Micros, now: Micros) {
        if now.saturating_sub(claimed) < IN_TIME {
            return;
        }
        if self.last < now.saturating_sub(LONGEST_WINDOW) {
            self.first = claimed;
        }
        self.first = self.first.min(claimed);
        self.last = self.last.max(now);
    }
}

/// Ids that were claimed before this time may be used anew. `oldest_open` is the time at which the oldest open transaction
/// that has published began to: it may be one whose commit is visible already. It must have been asked for before `late`.
pub fn expired_before(
    now: Micros,
    window: Micros,
    oldest_open: Option<Micros>,
    late: &Late,
) -> Micros {
    let begin = now.saturating_sub(window).saturating_sub(IN_TIME);
    let open = oldest_open.unwrap_or(begin);
    let late = if late.last >= begin { late.first } else { begin };
    begin.min(open).min(late)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn table(number: i16, turn: Turn, since: Micros) -> Table {
        Table { number, turn, since: since * SECOND }
    }

    fn facts(now: Micros) -> Facts {
        Facts { now: now * SECOND, window: 100 * SECOND, has_ids: true, have_all_ended: false }
    }

    #[test]
    fn the_next_table_is_opened_after_half_a_window_with_ids() {
        let begun = [table(1, Turn::Current, 0), table(2, Turn::Free, 0)];
        assert_eq!(steps(&begun, &facts(49)), []);
        assert_eq!(steps(&begun, &Facts { has_ids: false, ..facts(500) }), []);
        assert_eq!(steps(&begun, &facts(50)), [Step::Open { number: 2, instead_of: 1 }]);
    }

    #[test]
    fn a_table_is_closed_when_all_have_ended_and_no_other_is_opened_before() {
        let tables =
            [table(1, Turn::Closing, 50), table(2, Turn::Current, 50), table(3, Turn::Free, 0)];
        assert_eq!(steps(&tables, &facts(500)), []);
        let ended = Facts { have_all_ended: true, ..facts(500) };
        assert_eq!(steps(&tables, &ended), [Step::Close(1)]);
    }

    #[test]
    fn a_closed_table_is_emptied_when_the_window_is_over() {
        let tables = [table(1, Turn::Closed, 50), table(2, Turn::Current, 50)];
        assert_eq!(steps(&tables, &facts(150)), []);
        assert_eq!(steps(&tables, &facts(151)), [Step::Empty(1)]);
    }

    #[test]
    fn an_id_expires_a_window_after_its_claim_unless_its_commit_was_late() {
        let at = |now: Micros, late: &Late, open| {
            expired_before(now * SECOND, 10 * SECOND, open, late) + IN_TIME
        };
        assert_eq!(at(100, &Late::NONE, None), 90 * SECOND);
        // Nothing is known of the time before second 95.
        let unknown = Late::unknown_before(95 * SECOND);
        assert!(at(100, &unknown, None) < 0);
        assert_eq!(at(106, &unknown, None), 96 * SECOND);
        // A transaction claimed at 70 and committed at 95.
        let mut late = Late::NONE;
        late.add(70 * SECOND, 95 * SECOND);
        assert_eq!(at(100, &late, None), 70 * SECOND + IN_TIME);
        assert_eq!(at(106, &late, None), 96 * SECOND);
        // One is open that began at 60.
        assert_eq!(at(106, &late, Some(60 * SECOND)), 60 * SECOND + IN_TIME);
    }

    #[test]
    fn commits_in_time_are_not_noted_and_old_notes_are_dropped() {
        let mut late = Late::NONE;
        late.add(10, 10 + IN_TIME - 1);
        assert_eq!((late.first, late.last), (Micros::MAX, Micros::MIN));
        late.add(10, 10 + IN_TIME);
        assert_eq!((late.first, late.last), (10, 10 + IN_TIME));
        let now = 3 * LONGEST_WINDOW;
        late.add(now - SECOND, now);
        assert_eq!((late.first, late.last), (now - SECOND, now));
        late.add(now - 2 * SECOND, now - SECOND);
        assert_eq!((late.first, late.last), (now - 2 * SECOND, now));
    }
}
