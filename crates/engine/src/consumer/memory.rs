//! What a consumer takes in memory, and when that is enough.
//!
//! The figures are what was measured with glibc's malloc, on average over trees and hash maps of different fill.

use super::Consumer;
use crate::lanes::LANE;
use crate::wire::MAX_BATCH;

/// Messages whose keys have no others, which a consumer's usual budget is for; and the most that may be in flight.
/// Tests have to get there too.
pub const LOOK_AHEAD: usize = if cfg!(test) { 32 } else { 65_536 };

/// A message in `messages`, with its place among the ready ones, or the leases and timers: the latter, which is more.
pub(super) const MESSAGE: usize = 170;

/// A message whose key has no other.
const OWN_KEY: usize = MESSAGE + LANE;

/// A finished range that is remembered.
const RANGE: usize = 37;

/// What a consumer may take until somebody says less; no budget is larger.
pub const USUAL_BUDGET: usize = LOOK_AHEAD * OWN_KEY;

/// What it takes at the most for what it can't do without: some 16 million withheld messages. Then other keys wait, too.
const MOST: usize = 64 << 20;

/// With fewer messages that are ready a consumer is not full because others have taken the memory, however small its
/// budget: or it would be said to be empty while there is something, and no batch would be whole.
pub(super) const ALWAYS_LOADED: usize = if cfg!(test) { 4 } else { MAX_BATCH };

impl Consumer {
    /// About what it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.memory_of_unfinished() + self.done.range_count() * RANGE
    }

    fn memory_of_unfinished(&self) -> usize {
        self.messages.len() * MESSAGE + self.lanes.memory()
    }

    /// How much it may take beside what it can't do without: the messages in flight, delayed or withheld, and a batch of
    /// others.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes.min(USUAL_BUDGET);
    }

    /// True when no more may be loaded.
    pub fn is_full(&self) -> bool {
        self.recovering_until.is_none() && (self.memory() >= MOST || self.has_its_share())
    }

    /// True when there is room for so many more that it is worth reading the table for them.
    pub(crate) fn wants_more(&self) -> bool {
        let has_room = self.memory() < MOST / 16 * 15;
        self.recovering_until.is_some() || has_room && !self.has_its_share()
    }

    fn has_its_share(&self) -> bool {
        self.memory() >= self.budget && self.fresh.len() + self.again.len() >= ALWAYS_LOADED
    }

    /// False if so many more messages, redelivered, might take too much: they come on top of what is loaded.
    pub fn has_room_to_redeliver(&self, messages: usize) -> bool {
        let more = messages.saturating_mul(OWN_KEY);
        self.memory_of_unfinished().saturating_add(more) <= 2 * USUAL_BUDGET
    }
}
