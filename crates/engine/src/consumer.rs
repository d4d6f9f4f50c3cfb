//! The state machine of one consumer: which messages are ready, in flight, withheld, delayed, finished.
//!
//! ```text
//!   offer ──> ready ──grant──> in flight ──finish──> (finished)
//!               ^  ^               │  │
//!    withheld ──┘  └── delayed <───┘  └── max_deliver ──> (dead letter)
//! ```
//!
//! Only unfinished messages are kept; whatever is at or below the cursor and not here is finished. Time comes
//! in as an argument, so a test can move it as it likes. Each change of a delivery leaves an event for the
//! journal; acks don't, because the acking transaction has written its own row.

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

/// The time of a step, and the ids it may hand out.
#[derive(Debug)]
pub struct StepContext<'a> {
    /// By the clock that deadlines count on.
    pub now: Micros,
    /// How much later it is by the wall clock, which the journal is written in.
    pub wall_offset: Micros,
    pub ids: &'a mut Ids,
}

impl StepContext<'_> {
    /// The same moment by the wall clock, for the journal and for users. 0 means "at once", by either clock.
    pub fn wall(&self, moment: Micros) -> Micros {
        shift(moment, self.wall_offset)
    }
}

/// A moment by another clock.
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
    /// An open transaction has acked it: it can't time out.
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

/// How many messages are in which state, and what became of the others.
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
    /// Bytes it may take.
    pub(super) budget: usize,
    /// All that is unfinished but what is shelved in `lanes`.
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
    /// Where this consumer started, or was restored: nothing at or below is taken when it is offered.
    pub(super) base: Seq,
    /// Up to here nothing will be offered any more, but for what fills a hole. While a consumer is attached
    /// the tail's position says the same, and this may lag behind it: it is at or above all that was offered.
    pub(super) cursor: Seq,
    /// Finished: not to be taken when it is offered. Of no use any more up to the cursor, or the lowest hole.
    pub(super) done: RangeSet,
    /// Restored, and not loaded up to the last of what it had delivered: until then nothing is delivered, or
    /// an unfinished message could be overtaken by a later one of its key.
    pub(super) recovering_until: Option<Seq>,
    /// The highest seq ever delivered.
    pub(super) max_delivered: Seq,
    pub(super) totals: Counts,
    events: Vec<Event>,
}

impl Consumer {
    /// A consumer that has nothing yet.
    pub fn new(settings: Settings) -> Consumer {
        Consumer { settings, budget: USUAL_BUDGET, ..Consumer::default() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// New settings, from now on. A change of `ordered` needs [`Consumer::restore`] instead.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Messages that `grant` could hand out now.
    pub fn deliverable(&self) -> usize {
        if self.settings.paused || self.recovering_until.is_some() {
            return 0;
        }
        self.room().min(self.fresh.len() + self.again.len())
    }

    /// Deliveries that max_ack_pending still allows.
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

    /// True for a loaded message that isn't finished. It has this key.
    pub fn is_unfinished(&self, seq: Seq, key: KeyId) -> bool {
        self.messages.contains_key(&seq) || self.lanes.is_shelved(key, seq)
    }

    /// Unfinished messages that are loaded.
    pub fn unfinished(&self) -> usize {
        self.messages.len() + self.lanes.shelved()
    }

    /// The lowest unfinished message that is loaded. None is shelved below the head of its lane.
    pub fn first_unfinished(&self) -> Option<Seq> {
        self.messages.first_key_value().map(|(&seq, _)| seq)
    }

    /// When [`Consumer::tick`] has something to do next.
    pub fn next_due(&self) -> Option<Micros> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// The journal since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes those deliveries out of `events` whose messages are all finished by now: their acks say so. It takes out
    /// nothing if one of the events is of another kind, since that may build on an earlier one.
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

    /// A committed message that matches the consumer's filters, after all below it but those that fill holes.
    /// Ignored if it is known or finished.
    pub fn offer(&mut self, seq: Seq, key: KeyId) {
        self.cursor = self.cursor.max(seq);
        if seq > self.base && !self.done.contains(seq) {
            self.enter(seq, key, 0);
        }
    }

    /// Everything up to `cursor` has been offered, but what is to fill the holes, of which this is the lowest.
    pub(super) fn loaded(&mut self, cursor: Seq, lowest_hole: Option<Seq>) {
        self.cursor = self.cursor.max(cursor);
        // A hole may be among what is finished: one below the start, when some message there is redelivered.
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

    /// A finished message is wanted once more, as if it had never been delivered; false if it is unfinished.
    /// One above the cursor is read when its turn comes: now it could overtake others of its key.
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
