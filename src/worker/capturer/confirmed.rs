//! Up to which position the slot is confirmed: up to where messages are written, and can't be lost any more.
//!
//! The commit of a change is in WAL before the commit of its message. If the slot were confirmed beyond the first
//! before the second is on disk, a crash could lose the message, and the change would not be decoded again. The same
//! holds for a standby that has a copy of the slot and may be promoted. So the commit of the messages must be on disk
//! here, and on the standbys of synchronized_standby_slots.

use crate::pg::now;
use crate::pg::wal::decode::Decoder;
use crate::pg::wal::{position, replication_slot};
use sequin_engine::settings::Micros;
use std::collections::VecDeque;

/// The least time between two confirmations.
const CONFIRM_EVERY: Micros = 200_000;

/// The most positions that are remembered while a standby is behind. If there are more, the newest ones are merged.
const MOST: usize = 1_000;

/// What has been confirmed, and what is still to be.
#[derive(Default)]
pub struct Confirmed {
    at: Micros,
    position: u64,
    pairs: Pairs,
}

/// Pairs of positions, ascending: all up to the first is written, and is safe once WAL is on disk up to the second.
#[derive(Default)]
struct Pairs(VecDeque<(u64, u64)>);

impl Confirmed {
    /// All up to `position` is written, by a commit that ends at `commit` in WAL.
    pub fn written(&mut self, position: u64, commit: u64) {
        // In a round without messages the last commit is an old one. What was read must be on disk, too.
        if position > self.position {
            self.pairs.push(position, commit.max(position));
        }
    }

    /// Confirms the newest position that is safe, unless the last confirmation is too recent.
    pub fn confirm(&mut self, decoder: &Decoder) {
        let now = now();
        if now < self.at + CONFIRM_EVERY {
            return;
        }
        let flushed = position::flushed();
        let is_safe = |commit| flushed >= commit && replication_slot::standbys_have(commit);
        if let Some(position) = self.pairs.take_newest(is_safe) {
            decoder.confirm(position);
            (self.at, self.position) = (now, position);
        }
    }
}

impl Pairs {
    fn push(&mut self, position: u64, safe_at: u64) {
        let is_full = self.0.len() >= MOST;
        match self.0.back_mut() {
            Some(last) if last.0 >= position => last.1 = last.1.max(safe_at),
            Some(last) if is_full => *last = (position, safe_at),
            _ => self.0.push_back((position, safe_at)),
        }
    }

    /// Removes the pairs that are safe, and returns the position of the newest.
    fn take_newest(&mut self, is_safe: impl Fn(u64) -> bool) -> Option<u64> {
        let count = self.0.partition_point(|&(_, safe_at)| is_safe(safe_at));
        self.0.drain(..count).next_back().map(|(position, _)| position)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Pairs};

    #[test]
    fn the_newest_position_that_is_safe_is_confirmed_once() {
        let mut pairs = Pairs::default();
        [(10, 15), (20, 25), (30, 35)].into_iter().for_each(|(at, safe)| pairs.push(at, safe));
        assert_eq!(pairs.take_newest(|safe| safe <= 14), None);
        assert_eq!(pairs.take_newest(|safe| safe <= 30), Some(20));
        assert_eq!(pairs.take_newest(|safe| safe <= 30), None);
        assert_eq!(pairs.take_newest(|safe| safe <= 40), Some(30));
    }

    #[test]
    fn a_standby_that_is_far_behind_costs_a_bounded_list() {
        let mut pairs = Pairs::default();
        (0..3 * MOST as u64).for_each(|n| pairs.push(10 * n, 10 * n + 5));
        assert_eq!(pairs.0.len(), MOST);
        assert_eq!(pairs.take_newest(|safe| safe <= 25), Some(20));
        assert_eq!(pairs.take_newest(|_| true), Some(10 * (3 * MOST as u64 - 1)));
    }

    #[test]
    fn a_later_commit_of_the_same_position_counts() {
        let mut pairs = Pairs::default();
        [(10, 15), (10, 40)].into_iter().for_each(|(at, safe)| pairs.push(at, safe));
        assert_eq!(pairs.take_newest(|safe| safe <= 20), None);
        assert_eq!(pairs.take_newest(|safe| safe <= 40), Some(10));
    }
}
