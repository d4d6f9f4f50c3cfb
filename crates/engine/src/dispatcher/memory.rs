//! Memory: consumers together take no more than a budget, however far they are behind, and those that nobody asks for
//! take none.
//!
//! A consumer looks ahead as far as its share allows. When all together are over the budget, the largest are **trimmed**:
//! what they have loaded and not delivered is forgotten, and read again when somebody asks. One that nobody has asked for a
//! while, and that has nothing in flight, is **unloaded**: all there is to know of it is in its checkpoint.

use super::interface::Shared;
use super::{Dispatcher, Step};
use crate::consumer::{Consumer, USUAL_BUDGET};
use crate::ids::ConsumerId;
use crate::settings::Micros;
use std::collections::BTreeSet;

/// How long nobody has asked for a consumer that is unloaded. Tests have to get there too.
pub(super) const IDLE_AFTER: Micros = if cfg!(test) { 5_000_000 } else { 60_000_000 };

/// When one is looked at again that can't be unloaded yet.
pub(super) const RETRY_UNLOAD: Micros = 1_000_000;

/// Consumers that are unloaded, or trimmed, before requests have their turn again: some 10 us each, and 1 ms for one with
/// tens of thousands of messages.
const PER_STEP: usize = 8;

/// The least time between two searches for consumers to trim: each goes through all that there are. And after one that was
/// in vain, because all is in flight, or waited for.
pub(super) const TRIM_EVERY: Micros = 10_000;
pub(super) const RETRY_TRIM: Micros = 1_000_000;

/// Of what is left of the budget, a consumer may take this part.
pub(super) const SHARE: usize = 8;

/// A consumer with less than this is not worth trimming.
const LEAST_TRIMMED: usize = if cfg!(test) { 0 } else { 32 << 10 };

/// What the loaded consumers take, in bytes, and when each is checked for whether somebody still needs it.
#[derive(Debug)]
pub(super) struct Memory {
    budget: usize,
    taken: usize,
    checks: BTreeSet<(Micros, ConsumerId)>,
    /// No consumer is trimmed before.
    next_trim: Micros,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { budget: usize::MAX, taken: 0, checks: BTreeSet::new(), next_trim: 0 }
    }
}

impl Memory {
    /// What a consumer may take that takes `own` now.
    fn share(&self, own: usize) -> usize {
        let left = self.budget.saturating_sub(self.taken);
        own.saturating_add(left / SHARE).min(USUAL_BUDGET)
    }

    fn is_over(&self) -> bool {
        self.taken > self.budget
    }

    /// Takes account of what a consumer takes now, and sets how much it may take.
    pub fn account(&mut self, before: &mut usize, consumer: &mut Consumer) {
        let now = consumer.memory();
        self.taken = self.taken.saturating_sub(std::mem::replace(before, now)).saturating_add(now);
        consumer.set_budget(self.share(now));
    }

    /// When there is something to do.
    pub fn next(&self) -> Option<Micros> {
        let trim = self.is_over().then_some(self.next_trim);
        self.checks.first().map(|&(at, _)| at).into_iter().chain(trim).min()
    }
}

impl Dispatcher {
    /// How much memory consumers may take together, in bytes. The least that each needs to deliver at all is not
    /// withheld from it.
    pub fn set_memory_budget(&mut self, bytes: usize) {
        self.memory.budget = bytes;
    }

    /// How much they take.
    pub fn memory_taken(&self) -> usize {
        self.memory.taken
    }

    /// Somebody asks for a consumer.
    pub(super) fn note_use<S: Shared>(&mut self, id: ConsumerId, s: &Step<S>) {
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.used_at = s.now();
        }
    }

    /// A consumer's state has been loaded.
    pub(super) fn note_loaded<S: Shared>(&mut self, id: ConsumerId, s: &Step<S>) {
        self.check_at(id, s.now() + IDLE_AFTER);
    }

    fn check_at(&mut self, id: ConsumerId, at: Micros) {
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.check_at.replace(at).map(|before| self.memory.checks.remove(&(before, id)));
            self.memory.checks.insert((at, id));
        }
    }

    /// A consumer's state is no longer in memory.
    pub(super) fn note_unloaded(&mut self, id: ConsumerId) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        entry.loaded = false;
        entry.due.take().map(|due| self.timers.remove(&(due, id)));
        entry.check_at.take().map(|at| self.memory.checks.remove(&(at, id)));
        let before = std::mem::take(&mut entry.memory);
        self.memory.taken = self.memory.taken.saturating_sub(before);
    }

    /// Unloads what nobody needs, and trims the largest while there is too much.
    pub(super) fn limit_memory<S: Shared>(&mut self, s: &mut Step<S>) {
        for _ in 0..PER_STEP {
            let Some(&(at, id)) = self.memory.checks.first().filter(|(at, _)| *at <= s.now())
            else {
                break;
            };
            let used_at = self.world.consumers.get(&id).map_or(0, |entry| entry.used_at);
            if used_at + IDLE_AFTER > at {
                self.check_at(id, used_at + IDLE_AFTER);
            } else if self.may_unload(id, s) {
                self.unload(id);
            } else {
                self.check_at(id, s.now() + RETRY_UNLOAD);
            }
        }
        if self.memory.is_over() && self.memory.next_trim <= s.now() {
            let before = self.memory.taken;
            self.trim_largest(s);
            let is_less = self.memory.taken < before;
            self.memory.next_trim = s.now() + if is_less { TRIM_EVERY } else { RETRY_TRIM };
        }
    }

    /// Whether nobody uses a consumer, and a checkpoint says all there is to know of it. If only the checkpoint is
    /// missing, has one written.
    fn may_unload<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) -> bool {
        self.account(id, s);
        let Some(entry) = self.world.consumers.get(&id) else { return false };
        let is_busy = entry.due.is_some() || !entry.waiting.is_empty();
        if is_busy || self.sessions.iter().any(|session| session.uses(id)) {
            return false;
        }
        let is_saved = !self.has_changed(id);
        if !is_saved {
            self.save_soon(id);
        }
        is_saved
    }

    fn unload(&mut self, id: ConsumerId) {
        if let Some(stream) = self.world.stream_of_mut(id) {
            stream.remove(id);
        }
        self.note_unloaded(id);
        self.unsaved.remove(&id);
    }

    fn trim_largest<S: Shared>(&mut self, s: &mut Step<S>) {
        let consumers = self.world.consumers.iter();
        let mut by_size: Vec<(usize, ConsumerId)> = consumers
            .filter(|(_, entry)| entry.memory > LEAST_TRIMMED && entry.waiting.is_empty())
            .map(|(&id, entry)| (entry.memory, id))
            .collect();
        by_size.sort_unstable();
        // Not just below the budget, or the next read would be too much again.
        let wanted = self.memory.budget / 4 * 3;
        for (_, id) in by_size.into_iter().rev().take(PER_STEP) {
            if self.memory.taken <= wanted {
                break;
            }
            // What it has loaded and not delivered is forgotten.
            self.put_again(id, s);
            self.account(id, s);
        }
    }
}
