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

/// What a consumer may take until somebody says otherwise.
pub(super) const USUAL_BUDGET: usize = LOOK_AHEAD * OWN_KEY;

/// With fewer messages that are not withheld no consumer is full, however small its budget: there is always
/// something to deliver, or something in flight, and room for a whole batch.
pub(super) const ALWAYS_LOADED: usize = if cfg!(test) { 4 } else { MAX_BATCH };

impl Consumer {
    /// About what it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.memory_of_unfinished() + self.done.range_count() * RANGE
    }

    fn memory_of_unfinished(&self) -> usize {
        self.messages.len() * MESSAGE + self.lanes.memory()
    }

    /// How much it may take. If it takes more it is full until some messages are finished.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// True when no more may be loaded.
    pub fn is_full(&self) -> bool {
        self.recovering_until.is_none()
            && self.memory() >= self.budget
            && self.not_withheld() >= ALWAYS_LOADED
    }

    /// True when there is room for so many more that it is worth reading the table for them.
    pub(crate) fn wants_more(&self) -> bool {
        self.recovering_until.is_some()
            || self.memory() + self.budget / 16 < self.budget
            || self.not_withheld() < ALWAYS_LOADED - ALWAYS_LOADED / 16
    }

    /// False if so many more messages, redelivered, might take too much: they come on top of what is loaded.
    pub fn has_room_to_redeliver(&self, messages: usize) -> bool {
        let most = self.budget.max(USUAL_BUDGET).saturating_mul(2);
        self.memory_of_unfinished().saturating_add(messages.saturating_mul(OWN_KEY)) <= most
    }

    /// Ready, in flight or delayed.
    fn not_withheld(&self) -> usize {
        self.messages.len() - (self.lanes.withheld() - self.lanes.shelved())
    }
}
