//! The transitions of a message between states, which keep the consumer's indexes consistent.

use super::super::event::Item;
use super::super::key::{KeyId, Seq};
use super::super::lanes::Turn;
use super::super::settings::Micros;
use super::{Consumer, Message, State};
use std::collections::btree_map::Entry;

impl Consumer {
    /// Adds a message that is neither in flight nor delayed. Ignored if it is known.
    pub(crate) fn enter(&mut self, seq: Seq, key: KeyId, deliveries: u32) {
        let Entry::Vacant(place) = self.messages.entry(seq) else { return };
        if self.settings.ordered && deliveries == 0 && self.lanes.shelve(key, seq) {
            return;
        }
        place.insert(Message { key, deliveries, state: State::Withheld });
        let turn = if self.settings.ordered {
            self.lanes.enter(key, seq)
        } else {
            Turn { ready: Some(seq), withheld: None }
        };
        self.apply(key, turn);
    }

    /// Delays a message that was in flight.
    pub(super) fn delay(&mut self, seq: Seq, until: Micros) {
        self.clear_state(seq);
        if let Some(message) = self.messages.get_mut(&seq) {
            message.state = State::Delayed { until };
            self.timers.insert((until, seq));
            self.delayed += 1;
        }
    }

    /// Adds a message that is in flight or delayed from the start: only in a restore.
    pub(crate) fn enter_busy(&mut self, item: Item, state: State) {
        let Item { seq, key, deliveries } = item;
        self.messages.insert(seq, Message { key, deliveries, state });
        match state {
            State::InFlight(lease) => {
                self.by_ack_id.insert(lease.ack_id, seq);
                if !lease.pinned {
                    self.timers.insert((lease.due, seq));
                }
            }
            State::Delayed { until } => {
                self.timers.insert((until, seq));
                self.delayed += 1;
            }
            State::Ready | State::Withheld => {}
        }
        if self.settings.ordered {
            let turn = self.lanes.enter_busy(key, seq);
            self.apply(key, turn);
        }
    }

    /// Ends a lease or a delay: the message, or a lower one of its key, becomes ready.
    pub(super) fn make_ready(&mut self, seq: Seq) {
        self.clear_state(seq);
        let Some(message) = self.messages.get_mut(&seq) else { return };
        message.state = State::Withheld;
        let key = message.key;
        let turn = match self.settings.ordered {
            true => self.lanes.put_back(key, seq),
            false => Turn { ready: Some(seq), withheld: None },
        };
        self.apply(key, turn);
    }

    /// Removes a message, which is finished.
    pub(super) fn remove(&mut self, seq: Seq) {
        let Some(message) = self.messages.remove(&seq) else { return };
        self.leave_state(seq, message.state);
        if seq > self.cursor {
            self.done.insert(seq);
        }
        if self.settings.ordered {
            let turn = self.lanes.leave(message.key, seq);
            self.apply(message.key, turn);
        }
    }

    fn clear_state(&mut self, seq: Seq) {
        if let Some(message) = self.messages.get(&seq) {
            self.leave_state(seq, message.state);
        }
    }

    /// Removes a message from the indexes that it is in because of its state.
    fn leave_state(&mut self, seq: Seq, state: State) {
        match state {
            State::Ready => {
                self.fresh.remove(&seq);
                self.again.remove(&seq);
            }
            State::Withheld => {}
            State::InFlight(lease) => {
                self.by_ack_id.remove(&lease.ack_id);
                if !lease.pinned {
                    self.timers.remove(&(lease.due, seq));
                }
            }
            State::Delayed { until } => {
                self.timers.remove(&(until, seq));
                self.delayed -= 1;
            }
        }
    }

    /// Applies a change of the head of this key's lane.
    fn apply(&mut self, key: KeyId, turn: Turn) {
        if let Some(seq) = turn.withheld {
            self.clear_state(seq);
            if let Entry::Occupied(mut entry) = self.messages.entry(seq) {
                if entry.get().deliveries == 0 && self.lanes.shelve(key, seq) {
                    entry.remove();
                } else {
                    entry.get_mut().state = State::Withheld;
                }
            }
        }
        let Some(seq) = turn.ready else { return };
        let shelved = Message { key, deliveries: 0, state: State::Withheld };
        let message = self.messages.entry(seq).or_insert(shelved);
        message.state = State::Ready;
        let set = if message.deliveries > 0 { &mut self.again } else { &mut self.fresh };
        set.insert(seq);
    }
}
