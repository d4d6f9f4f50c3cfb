//! Recovery: a consumer's state at one moment, and replaying the journal over it.
//!
//! A state says what is finished (all up to `floor`, and `done` above it) and what has been delivered but not finished
//! (`active`). All other messages are still to be delivered, and are read from the stream's table again. So an
//! incomplete journal can't lose a message; it can only make one be delivered again, and early.

use super::consumer::{Consumer, Counts, Lease, State, shift};
use super::event::{Change, Item};
use super::ids::AckId;
use super::key::Seq;
use super::ranges::RangeSet;
use super::settings::{Micros, Settings};
use std::collections::BTreeMap;

/// What holds back an unfinished message that was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    InFlight(Lease),
    /// It may be delivered again from this time on; 0 means at once.
    Until(Micros),
}

/// A consumer's state, as a checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerState {
    /// All that matches up to here is finished.
    pub floor: Seq,
    /// Finished messages above the floor.
    pub done: RangeSet,
    /// Delivered and not finished.
    pub active: BTreeMap<Seq, (Item, Hold)>,
    pub acked_total: i64,
    pub redelivered_total: i64,
    pub dead_total: i64,
}

impl ConsumerState {
    /// The state of a consumer that has been delivered nothing yet. It wants everything above `floor` but what is in
    /// `done`.
    pub fn start(floor: Seq, done: RangeSet) -> ConsumerState {
        ConsumerState { floor, done, ..ConsumerState::default() }
    }

    /// This state with the counters of another.
    pub fn with_totals(self, other: &ConsumerState) -> ConsumerState {
        let ConsumerState { acked_total, redelivered_total, dead_total, .. } = *other;
        ConsumerState { acked_total, redelivered_total, dead_total, ..self }
    }

    /// This state with times by another clock, which is ahead by `offset`.
    pub fn shifted(mut self, offset: Micros) -> ConsumerState {
        for (_, hold) in self.active.values_mut() {
            match hold {
                Hold::InFlight(lease) => lease.due = shift(lease.due, offset),
                Hold::Until(until) => *until = shift(*until, offset),
            }
        }
        self
    }

    /// False for what no dispatcher writes: see [`Change::is_possible`].
    pub fn is_possible(&self) -> bool {
        /// No counter reaches this from 0, and adding to a lower one can't overflow.
        const MOST: i64 = i64::MAX / 2;
        let ConsumerState { acked_total, redelivered_total, dead_total, .. } = *self;
        let totals = [acked_total, redelivered_total, dead_total];
        self.floor >= 0
            && self.done.first().is_none_or(|seq| seq > 0)
            && self.active.keys().all(|&seq| seq > 0)
            && totals.iter().all(|total| (0..=MOST).contains(total))
    }

    /// The highest ack_id of a delivery in flight; 0 if there is none.
    pub fn highest_ack_id(&self) -> AckId {
        let ack_id = |hold: &Hold| match hold {
            Hold::InFlight(lease) => lease.ack_id,
            Hold::Until(_) => AckId::default(),
        };
        self.active.values().map(|(_, hold)| ack_id(hold)).max().unwrap_or_default()
    }

    /// How many ranges and deliveries there are: a measure of what a checkpoint costs.
    pub fn size(&self) -> usize {
        self.done.range_count() + self.active.len()
    }

    /// Replays the next entry of the journal.
    pub fn replay(&mut self, change: Change) {
        match change {
            Change::Delivered { first_ack_id, due, items } => {
                for (item, ack_id) in items.into_iter().zip(first_ack_id.and_above()) {
                    self.redelivered_total += i64::from(item.deliveries > 1);
                    let lease = Lease { ack_id, due, holder: 0, pinned: false };
                    self.hold(item, Hold::InFlight(lease));
                }
            }
            Change::Returned { item, until } => self.hold(item, Hold::Until(until)),
            Change::Extended { ack_id, seq, due } => {
                if let Some((_, Hold::InFlight(lease))) = self.active.get_mut(&seq)
                    && lease.ack_id == ack_id
                {
                    lease.due = due;
                }
            }
            Change::Finished { seqs } => seqs.into_iter().for_each(|seq| self.finish(seq)),
            Change::Dead { item } => {
                self.dead_total += 1;
                self.finish(item.seq);
            }
            Change::Redelivered { seqs } => seqs.into_iter().for_each(|seq| self.want(seq)),
        }
    }

    fn hold(&mut self, item: Item, hold: Hold) {
        self.want(item.seq);
        self.active.insert(item.seq, (item, hold));
    }

    fn finish(&mut self, seq: Seq) {
        self.active.remove(&seq);
        if seq > self.floor {
            self.done.insert(seq);
        }
    }

    /// Makes `seq` unfinished again.
    fn want(&mut self, seq: Seq) {
        if seq > self.floor {
            self.done.remove(seq);
        } else {
            if seq < self.floor {
                self.done.insert_range(seq + 1, self.floor);
            }
            self.floor = seq - 1;
        }
    }
}

impl Consumer {
    /// A consumer in this state. Its cursor is the state's floor: the messages after that must be offered to it.
    pub fn restore(settings: Settings, state: ConsumerState) -> Consumer {
        let ConsumerState { floor, done, active, acked_total, redelivered_total, dead_total } =
            state;
        let mut consumer = Consumer::new(settings);
        consumer.base = floor;
        consumer.cursor = floor;
        consumer.max_delivered =
            done.last().max(active.keys().next_back().copied()).unwrap_or(floor);
        // Finished messages above that need not be loaded, and might never come: a consumer may start at a seq in the
        // future.
        consumer.recovering_until = active.keys().next_back().copied().filter(|&last| last > floor);
        consumer.done = done;
        consumer.totals =
            Counts { acked_total, redelivered_total, dead_total, ..Counts::default() };
        // Busy messages come first, so that no other message of their keys becomes ready.
        let (busy, idle): (Vec<_>, Vec<_>) =
            active.into_values().partition(|(_, hold)| *hold != Hold::Until(0));
        for (item, hold) in busy {
            consumer.enter_busy(
                item,
                match hold {
                    Hold::InFlight(lease) => State::InFlight(lease),
                    Hold::Until(until) => State::Delayed { until },
                },
            );
        }
        for (item, _) in idle {
            consumer.enter(item.seq, item.key, item.deliveries);
        }
        consumer
    }

    /// The seq up to which all that matches is finished, given that everything up to `cursor` has been offered but the
    /// `holes` of the stream.
    pub fn floor(&self, cursor: Seq, holes: &RangeSet) -> Seq {
        let cursor = cursor.max(self.base);
        let holes = holes.iter_from(self.base.saturating_add(1));
        let first_hole = holes
            .map(|(lo, hi)| (self.done.first_gap_from(lo), hi))
            .find(|(lo, hi)| lo <= hi)
            .map(|(lo, _)| lo);
        let unfinished = self.first_unfinished().into_iter().chain(first_hole).min();
        unfinished.map_or(cursor, |seq| cursor.min(seq - 1))
    }

    /// The state now, given that everything up to `cursor` has been offered but the `holes` of the stream.
    pub fn state(&self, cursor: Seq, holes: &RangeSet) -> ConsumerState {
        let cursor = cursor.max(self.base);
        let floor = self.floor(cursor, holes);
        // Above all that was ever delivered, only the stretch up to the next loaded message is recorded as finished.
        // What comes after is read again.
        let above = self.max_delivered.saturating_add(1);
        let loaded = self.messages.range(above..).next().map(|(&seq, _)| seq);
        let shelved = self.lanes.shelves().filter_map(|(_, shelf)| shelf.runs_from(above).next());
        let next = loaded.into_iter().chain(shelved.map(|(lo, _)| lo)).min();
        let top = next.map_or(cursor, |seq| cursor.min(seq - 1));
        let upto = top.max(self.max_delivered);
        let mut done = RangeSet::new();
        done.insert_range(floor.saturating_add(1), top);
        for (lo, hi) in holes.iter_within(self.base.max(floor).saturating_add(1), top) {
            done.remove_range(lo, hi);
        }
        for (lo, hi) in self.done.iter_from(floor.saturating_add(1)) {
            done.insert_range(lo, hi);
        }
        let mut unfinished: Vec<(Seq, Seq)> = Vec::new();
        for (_, shelf) in self.lanes.shelves() {
            unfinished.extend(shelf.runs_from(floor).take_while(|&(lo, _)| lo <= upto));
        }
        let mut active = BTreeMap::new();
        for (&seq, message) in self.messages.range(..=upto) {
            unfinished.push((seq, seq));
            let item = Item { seq, key: message.key, deliveries: message.deliveries };
            let hold = match message.state {
                State::InFlight(lease) => Hold::InFlight(lease),
                State::Delayed { until } => Hold::Until(until),
                State::Ready | State::Withheld if message.deliveries > 0 => Hold::Until(0),
                State::Ready | State::Withheld => continue,
            };
            active.insert(seq, (item, hold));
        }
        unfinished.sort_unstable();
        let done = done.without(unfinished.into_iter());
        let Counts { acked_total, redelivered_total, dead_total, .. } = self.totals;
        ConsumerState { floor, done, active, acked_total, redelivered_total, dead_total }
    }
}

#[cfg(test)]
mod tests;
