//! The state machine of one consumer: which messages are ready, in flight, withheld, delayed, finished.
//!
//! ```text
//!   offer ──> ready ──grant──> in flight ──finish──> (finished)
//!               ^  ^               │  │
//!    withheld ──┘  └── delayed <───┘  └── max_deliver ──> (dead letter)
//! ```
//!
//! Only unfinished messages are kept; a message that is at or below the cursor and not here is finished. Time comes in
//! as an argument, so a test can move it as it likes. Each change of a delivery leaves an event for the journal; acks
//! don't, because the acking transaction has written its own row.

mod deliveries;
mod memory;
mod moves;
#[cfg(test)]
mod tests;

pub use memory::{LOOK_AHEAD, USUAL_BUDGET};

use super::event::{Change, Event, Item};
use super::ids::{AckId, Ids};
use super::key::{KeyId, Seq};
use super::lanes::Lanes;
use super::ranges::RangeSet;
use super::settings::{Micros, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The time of a step, and the source of the ids that it hands out.
#[derive(Debug)]
pub struct StepContext<'a> {
    /// By the clock that never steps, which deadlines are measured by.
    pub now: Micros,
    /// What must be added to get the time of the wall clock, which the journal uses.
    pub wall_offset: Micros,
    pub ids: &'a mut Ids,
}

impl StepContext<'_> {
    /// Converts a time to the wall clock, for the journal and for users. 0 means "at once" by either clock.
    pub fn wall(&self, moment: Micros) -> Micros {
        shift(moment, self.wall_offset)
    }
}

/// Converts a time to another clock.
pub(super) fn shift(moment: Micros, offset: Micros) -> Micros {
    if moment == 0 { 0 } else { moment.saturating_add(offset) }
}

/// A message handed to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub ack_id: AckId,
    pub seq: Seq,
    pub deliveries: u32,
}

/// A live delivery, as `sequin.in_flight` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub ack_id: AckId,
    pub due: Micros,
    /// The process that received it; 0 when that was before a restart of the dispatcher.
    pub holder: i32,
    /// An open transaction has acked or nacked it: it can't time out.
    pub pinned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Withheld,
    InFlight(Lease),
    Delayed { until: Micros },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub key: KeyId,
    pub deliveries: u32,
    pub state: State,
}

/// How many messages are in each state, and how many have ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: usize,
    pub in_flight: usize,
    pub delayed: usize,
    pub withheld: usize,
    pub acked_total: i64,
    pub redelivered_total: i64,
    pub dead_total: i64,
}

/// One consumer.
#[derive(Debug, Default)]
pub struct Consumer {
    settings: Settings,
    /// The bytes of memory that it may take.
    pub(super) budget: usize,
    /// All unfinished messages but those that are shelved in `lanes`.
    pub(super) messages: BTreeMap<Seq, Message>,
    /// Deliverable and never delivered before.
    fresh: BTreeSet<Seq>,
    /// Deliverable and delivered before: these go first.
    again: BTreeSet<Seq>,
    pub(super) lanes: Lanes,
    by_ack_id: BTreeMap<AckId, Seq>,
    /// Deadlines of leases and ends of delays.
    timers: BTreeSet<(Micros, Seq)>,
    delayed: usize,
    /// Where this consumer started, or was restored. A message at or below is ignored when it is offered.
    pub(super) base: Seq,
    /// Up to here no message will be offered any more, but for those that fill a hole. While the consumer is attached,
    /// the same is true up to the tail's position, and this may lag behind that. It is at or above all that was
    /// offered.
    pub(super) cursor: Seq,
    /// Finished messages: ignored when they are offered. Up to the cursor, or the lowest hole, they need not be kept.
    pub(super) done: RangeSet,
    /// Set while the consumer is restored but not loaded up to here, the last message that had been delivered. Until
    /// then nothing is delivered: a message could overtake an earlier unfinished one of its key.
    pub(super) recovering_until: Option<Seq>,
    /// The highest seq ever delivered.
    pub(super) max_delivered: Seq,
    pub(super) totals: Counts,
    events: Vec<Event>,
}

impl Consumer {
    /// A consumer without messages.
    pub fn new(settings: Settings) -> Consumer {
        Consumer { settings, budget: USUAL_BUDGET, ..Consumer::default() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replaces the settings. A change of `ordered` needs [`Consumer::restore`] instead.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How many messages `grant` could grant now.
    pub fn deliverable(&self) -> usize {
        if self.settings.paused || self.recovering_until.is_some() {
            return 0;
        }
        self.room().min(self.fresh.len() + self.again.len())
    }

    /// How many deliveries max_ack_pending still allows.
    pub fn room(&self) -> usize {
        self.settings.max_ack_pending.saturating_sub(self.by_ack_id.len())
    }

    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.fresh.len() + self.again.len(),
            in_flight: self.by_ack_id.len(),
            delayed: self.delayed,
            withheld: self.lanes.withheld(),
            ..self.totals
        }
    }

    /// True if a message, which has this key, is loaded and not finished.
    pub fn is_unfinished(&self, seq: Seq, key: KeyId) -> bool {
        self.messages.contains_key(&seq) || self.lanes.is_shelved(key, seq)
    }

    /// Unfinished messages that are loaded.
    pub fn unfinished(&self) -> usize {
        self.messages.len() + self.lanes.shelved()
    }

    /// The lowest unfinished message that is loaded. Shelved messages needn't be looked at: each is above the head of
    /// its lane.
    pub fn first_unfinished(&self) -> Option<Seq> {
        self.messages.first_key_value().map(|(&seq, _)| seq)
    }

    /// When [`Consumer::tick`] has something to do next.
    pub fn next_due(&self) -> Option<Micros> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// Takes the events since the last call, for the journal.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Removes deliveries from `events` whose messages are all finished by now: rows of sequin.acks say that already.
    /// Removes nothing if one of the events is of another kind, since it may depend on an earlier delivery.
    pub fn drop_finished(&self, events: &mut Vec<Event>) {
        let unfinished = |event: &Event| match &event.change {
            Change::Delivered { items, .. } => {
                items.iter().any(|i| self.is_unfinished(i.seq, i.key))
            }
            _ => true,
        };
        if events.iter().all(|event| matches!(event.change, Change::Delivered { .. })) {
            events.retain(unfinished);
        }
    }

    /// Offers a committed message that matches the consumer's filters. All below it must have been offered before,
    /// except for those that fill holes. It is ignored if it is known or finished.
    pub fn offer(&mut self, seq: Seq, key: KeyId) {
        self.cursor = self.cursor.max(seq);
        if seq > self.base && !self.done.contains(seq) {
            self.enter(seq, key, 0);
        }
    }

    /// Everything up to `cursor` has been offered, except for what will fill holes. `lowest_hole` is the lowest of
    /// these.
    pub(super) fn loaded(&mut self, cursor: Seq, lowest_hole: Option<Seq>) {
        self.cursor = self.cursor.max(cursor);
        // A hole may be in `done`: one below the consumer's start, if a message below that is redelivered.
        let hole = lowest_hole.unwrap_or(Seq::MAX);
        self.done.remove_range(Seq::MIN, self.cursor.min(hole - 1));
        self.recovering_until = self.recovering_until.filter(|&last| self.cursor < last);
    }

    /// True as long as [`Consumer::loaded`] has to be called whenever more rows have been offered.
    pub(super) fn is_settling(&self) -> bool {
        self.recovering_until.is_some() || self.done.last() > Some(self.cursor)
    }

    /// The first seq above the cursor that is not known to be finished, less one: where to read on from.
    pub(super) fn skip_done(&self) -> Seq {
        self.done.first_gap_from(self.cursor.saturating_add(1)) - 1
    }

    /// Makes a finished message be delivered once more, as if it never had been; false if it is unfinished. A message
    /// above the cursor is only taken out of `done`, and is read in its turn: now it could overtake others of its key.
    pub fn redeliver(&mut self, seq: Seq, key: KeyId) -> bool {
        if self.is_unfinished(seq, key) {
            return false;
        }
        if seq > self.cursor {
            return self.done.remove(seq);
        }
        self.done.remove(seq);
        self.enter(seq, key, 0);
        true
    }

    /// Live deliveries with an ack_id above `after`, ascending.
    pub fn in_flight(&self, after: AckId) -> impl Iterator<Item = (Lease, Seq, u32)> + '_ {
        let above = (Bound::Excluded(after), Bound::Unbounded);
        self.by_ack_id.range(above).filter_map(|(_, &seq)| match self.messages.get(&seq) {
            Some(Message { state: State::InFlight(lease), deliveries, .. }) => {
                Some((*lease, seq, *deliveries))
            }
            _ => None,
        })
    }

    fn item(&self, seq: Seq) -> Option<Item> {
        let message = self.messages.get(&seq)?;
        Some(Item { seq, key: message.key, deliveries: message.deliveries })
    }

    fn record(&mut self, context: &mut StepContext, change: Change) {
        self.events.push(Event { id: context.ids.take(1), change });
    }
}
