//! How much memory a consumer takes, and when it may not take more.
//!
//! The figures were measured with glibc's malloc, on average over trees and hash maps of different fill.

use super::Consumer;
use crate::lanes::LANE;
use crate::wire::MAX_BATCH;

/// How many messages, each the only one of its key, a consumer's usual budget is for; and the most that may be in
/// flight. Low in tests, so that they reach it.
pub const LOOK_AHEAD: usize = if cfg!(test) { 32 } else { 65_536 };

/// The bytes of a message in `messages`, with its places among leases and timers. A place among the ready ones takes
/// less.
pub(super) const MESSAGE: usize = 170;

/// The bytes of a message that is the only one of its key.
const OWN_KEY: usize = MESSAGE + LANE;

/// The bytes of a range of finished messages.
const RANGE: usize = 37;

/// The budget of a consumer unless it is given a smaller one. No budget is larger.
pub const USUAL_BUDGET: usize = LOOK_AHEAD * OWN_KEY;

/// The most that a consumer takes, whatever its budget, for what it must keep: some 16 million withheld messages.
/// Beyond that other keys wait, too.
const MOST: usize = 64 << 20;

/// A consumer with fewer ready messages than this is not full, however small its budget is. Otherwise it could seem to
/// be empty while there are messages, and batches would be incomplete.
pub(super) const ALWAYS_LOADED: usize = if cfg!(test) { 4 } else { MAX_BATCH };

impl Consumer {
    /// About how many bytes it takes.
    pub fn memory(&self) -> usize {
        self.memory_of_unfinished() + self.done.range_count() * RANGE
    }

    fn memory_of_unfinished(&self) -> usize {
        self.messages.len() * MESSAGE + self.lanes.memory()
    }

    /// Sets how much it may take. It may always keep the messages in flight, delayed or withheld, and a batch of
    /// others.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes.min(USUAL_BUDGET);
    }

    /// True when no more may be loaded.
    pub fn is_full(&self) -> bool {
        self.recovering_until.is_none() && (self.memory() >= MOST || self.has_its_share())
    }

    /// True if there is room for enough messages to make reading the table worthwhile.
    pub(crate) fn wants_more(&self) -> bool {
        let has_room = self.memory() < MOST / 16 * 15;
        self.recovering_until.is_some() || has_room && !self.has_its_share()
    }

    fn has_its_share(&self) -> bool {
        self.memory() >= self.budget && self.fresh.len() + self.again.len() >= ALWAYS_LOADED
    }

    /// False if redelivering so many messages might take too much memory, in addition to what is loaded.
    pub fn has_room_to_redeliver(&self, messages: usize) -> bool {
        let more = messages.saturating_mul(OWN_KEY);
        self.memory_of_unfinished().saturating_add(more) <= 2 * USUAL_BUDGET
    }
}
