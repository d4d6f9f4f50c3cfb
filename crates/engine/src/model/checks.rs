//! What must hold after every operation.

use super::Checked;
use super::run::Run;
use crate::consumer::{Consumer, Delivery, Message, State};
use crate::event::Change;
use crate::ids::{AckId, ConsumerId};
use crate::key::{KeyId, Seq, key_id};
use crate::settings::Micros;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// After so many operations, the next consumer is compared in full.
const CHECK_EVERY: u64 = 4;

impl Run {
    /// After every operation: events, the cheap comparisons, and a full one in turn.
    pub fn after_step(&mut self) -> Checked {
        self.collect()?;
        for &id in self.dispatcher.loaded.keys() {
            let counts = self.dispatcher.consumer(id)?.counts();
            let reference = &self.watched[&id].reference;
            prop_assert_eq!(counts.in_flight, reference.leases.len(), "in flight of {}", id);
            prop_assert_eq!(counts.delayed, reference.delays.len(), "delayed of {}", id);
        }
        let turn = ConsumerId(1 + (self.step / CHECK_EVERY % 6) as i32);
        if self.step.is_multiple_of(CHECK_EVERY) && self.dispatcher.loaded.contains_key(&turn) {
            self.check(turn)?;
            let consumer = self.dispatcher.consumer(turn)?;
            let (is_full, has_shelved) = (consumer.is_full(), consumer.lanes.shelved() > 0);
            let is_above = consumer.memory() >= consumer.budget && !is_full;
            self.reached.shelved += usize::from(has_shelved);
            self.reached.full += usize::from(is_full);
            self.reached.full_and_shelved += usize::from(is_full && has_shelved);
            self.reached.above_budget += usize::from(is_above);
        }
        Ok(())
    }

    /// When all has been looked at, only messages that are not known to be committed are missing, whichever
    /// transactions are open.
    pub fn check_look(&self) -> Checked {
        let Some(stream) = &self.dispatcher.streams.0 else { return Ok(()) };
        let tail = stream.tail();
        if !tail.pending() && tail.pos() == self.world.now.last {
            for (&seq, message) in &self.world.now.messages {
                let is_over = self.ended.contains_key(&seq) && !message.removed;
                prop_assert!(!is_over || !tail.is_hole(seq), "{} is held up", seq);
            }
        }
        Ok(())
    }

    /// Collects events. Each dead letter must be one that the reference expects, or one because max_deliver was
    /// lowered.
    pub fn collect(&mut self) -> Checked {
        for id in self.dispatcher.loaded.keys().copied().collect::<Vec<_>>() {
            for event in self.dispatcher.collect(id) {
                let Change::Dead { item } = event.change else { continue };
                let max_deliver = self.world.config(id)?.settings.max_deliver;
                let reference = &mut self.watched(id).reference;
                if reference.dying.remove(&item.seq) {
                    continue;
                }
                prop_assert!(!reference.is_finished(item.seq), "{} dies twice", item.seq);
                prop_assert!(reference.lease_of(item.seq).is_none(), "{} dies leased", item.seq);
                let deliveries = reference.deliveries.get(&item.seq).copied().unwrap_or(0);
                prop_assert_eq!(deliveries, item.deliveries);
                prop_assert!(max_deliver.is_some_and(|max| deliveries >= max), "dies too early");
                reference.finish(item.seq);
            }
            prop_assert!(self.watched(id).reference.dying.is_empty(), "should be dead letters");
        }
        Ok(())
    }

    /// Each delivery of a batch is one that may be, and the batch is as long as it can be.
    pub fn check_grant(
        &mut self,
        id: ConsumerId,
        deliveries: &[Delivery],
        batch: usize,
        due: Micros,
    ) -> Checked {
        self.collect()?;
        let settings = self.world.config(id)?.settings;
        prop_assert!(deliveries.is_empty() || !settings.paused, "delivers while paused");
        for delivery in deliveries {
            prop_assert!(
                self.ack_ids.insert(delivery.ack_id),
                "ack_id {:?} twice",
                delivery.ack_id
            );
            self.check_delivery(id, delivery.seq, settings.ordered)?;
            let Delivery { ack_id, seq, deliveries } = *delivery;
            let watched = self.watched(id);
            watched.reference.deliver(ack_id, seq, due);
            prop_assert_eq!(deliveries, watched.reference.deliveries[&seq], "count of {}", seq);
        }
        let is_next =
            |pair: &[Delivery]| pair[0].seq < pair[1].seq && pair[0].ack_id.at(1) == pair[1].ack_id;
        prop_assert!(deliveries.windows(2).all(is_next), "batch out of order");
        prop_assert!(deliveries.len() <= batch, "more than asked for");
        let consumer = self.dispatcher.consumer(id)?;
        let in_flight = consumer.counts().in_flight;
        if !deliveries.is_empty() {
            prop_assert!(in_flight <= settings.max_ack_pending, "{} in flight", in_flight);
        }
        if !settings.paused && consumer.recovering_until.is_none() {
            check_choice(consumer, deliveries, batch)?;
        }
        Ok(())
    }

    fn check_delivery(&self, id: ConsumerId, seq: Seq, ordered: bool) -> Checked {
        let (config, watched) = (self.world.config(id)?, &self.watched[&id]);
        let Some(message) = self.world.now.messages.get(&seq) else {
            return Err(TestCaseError::fail(format!("{seq} delivered, which never committed")));
        };
        let reference = &watched.reference;
        let matches = config.matches(message.key) || watched.maybe.contains(&seq);
        prop_assert!(matches, "{} doesn't match {}", seq, id);
        prop_assert!(!reference.is_finished(seq), "{} is finished for {}", seq, id);
        prop_assert!(reference.lease_of(seq).is_none(), "{} delivered twice to {}", seq, id);
        prop_assert!(!reference.delays.contains_key(&seq), "{} delivered too early", seq);
        if !ordered {
            return Ok(());
        }
        let key_of = |seq: &Seq| self.world.now.messages.get(seq).map(|message| message.key);
        let leased = reference.leases.values().map(|lease| &lease.seq);
        for other in leased.chain(reference.delays.keys()) {
            prop_assert!(key_of(other) != Some(message.key), "{} while {} is busy", seq, other);
        }
        for (earlier, other) in self.world.now.messages.range(..seq) {
            if other.key != message.key || other.removed || watched.maybe.contains(earlier) {
                continue;
            }
            // The transaction that published the later one could know of the earlier one.
            let is_after = self.ended.get(earlier).is_some_and(|&ended| ended < message.begun);
            let is_loaded =
                self.dispatcher.consumer(id)?.is_unfinished(*earlier, key_id(other.key));
            if is_after && config.matches(other.key) || is_loaded {
                prop_assert!(reference.is_finished(*earlier), "{} overtakes {}", seq, earlier);
            }
        }
        Ok(())
    }

    /// The consumer's state is that of the reference.
    pub fn check(&self, id: ConsumerId) -> Checked {
        let consumer = self.dispatcher.consumer(id)?;
        let reference = &self.watched[&id].reference;
        for (&seq, message) in &unfinished(consumer)? {
            let Some(published) = self.world.now.messages.get(&seq) else {
                return Err(TestCaseError::fail(format!("{seq} loaded, which never committed")));
            };
            prop_assert_eq!(key_id(published.key), message.key);
            prop_assert!(!reference.is_finished(seq), "{} is finished for {}", seq, id);
            let deliveries = reference.deliveries.get(&seq).copied().unwrap_or(0);
            prop_assert_eq!(message.deliveries, deliveries, "count of {}", seq);
            match message.state {
                State::InFlight(lease) => {
                    let expected = reference.leases.get(&lease.ack_id);
                    let expected = expected.map(|l| (l.seq, l.due, l.pinned));
                    prop_assert_eq!(Some((seq, lease.due, lease.pinned)), expected);
                }
                State::Delayed { until } => {
                    prop_assert_eq!(Some(&until), reference.delays.get(&seq));
                }
                State::Ready | State::Withheld => {}
            }
        }
        let counts = consumer.counts();
        prop_assert_eq!(counts.in_flight, reference.leases.len());
        prop_assert_eq!(counts.delayed, reference.delays.len());
        prop_assert_eq!(consumer.in_flight(AckId(0)).count(), reference.leases.len());
        check_states(consumer)?;
        self.check_nothing_lost(id, consumer)
    }

    /// Whether a message is loaded, or will be when it is offered.
    pub fn wants(&self, id: ConsumerId, seq: Seq) -> Checked<bool> {
        let (stream, consumer) = (self.dispatcher.stream()?, self.dispatcher.consumer(id)?);
        let cursor = stream.cursor(id).unwrap_or_default();
        let will_be_offered = seq > cursor || stream.tail().is_hole(seq);
        let is_new = seq > consumer.base && !consumer.done.contains(seq);
        let published = self.world.now.messages.get(&seq);
        let is_unfinished =
            published.is_some_and(|message| consumer.is_unfinished(seq, key_id(message.key)));
        Ok(is_unfinished || will_be_offered && is_new)
    }

    /// Each message that matches is wanted or finished.
    fn check_nothing_lost(&self, id: ConsumerId, consumer: &Consumer) -> Checked {
        let (config, watched) = (self.world.config(id)?, &self.watched[&id]);
        for (&seq, message) in &self.world.now.messages {
            if message.removed || watched.maybe.contains(&seq) {
                continue;
            }
            if config.matches(message.key) {
                let is_finished = watched.reference.is_finished(seq);
                prop_assert_eq!(!self.wants(id, seq)?, is_finished, "{} of {}", seq, id);
            } else {
                let is_unfinished = consumer.is_unfinished(seq, key_id(message.key));
                prop_assert!(!is_unfinished, "{} doesn't match {}", seq, id);
            }
        }
        Ok(())
    }
}

/// Redeliveries go first, then the lowest; and the batch is as large as possible.
fn check_choice(consumer: &Consumer, deliveries: &[Delivery], batch: usize) -> Checked {
    let ready = |again: bool| {
        let is_ready = |m: &crate::consumer::Message| m.state == State::Ready;
        let of_kind = move |m: &crate::consumer::Message| (m.deliveries > 0) == again;
        consumer
            .messages
            .iter()
            .filter(move |(_, m)| is_ready(m) && of_kind(m))
            .map(|(&seq, _)| seq)
    };
    let is_short = deliveries.len() < batch && consumer.room() > 0;
    prop_assert!(!is_short || consumer.counts().ready == 0, "more could be given");
    for again in [false, true] {
        let of_kind = deliveries.iter().filter(|delivery| (delivery.deliveries > 1) == again);
        if let Some(highest) = of_kind.map(|delivery| delivery.seq).max() {
            prop_assert!(ready(again).all(|seq| seq > highest), "not the lowest");
            prop_assert!(again || ready(true).next().is_none(), "a redelivery was passed over");
        }
    }
    Ok(())
}

/// All unfinished messages. A shelved one is above the head of its lane, and known nowhere else.
fn unfinished(consumer: &Consumer) -> Checked<BTreeMap<Seq, Message>> {
    let mut all = consumer.messages.clone();
    for (key, shelf) in consumer.lanes.shelves() {
        prop_assert!(!shelf.is_empty());
        for seq in shelf.runs_from(Seq::MIN).flat_map(|(lo, hi)| lo..=hi) {
            let is_before = |m: &Message| m.key == key && m.state != State::Withheld;
            let mut below = consumer.messages.range(..seq);
            let above = consumer.messages.range(seq..);
            prop_assert!(below.any(|(_, m)| is_before(m)), "{} is shelved too low", seq);
            prop_assert!(!above.into_iter().any(|(_, m)| is_before(m)), "{} is below a head", seq);
            let withheld = Message { key, deliveries: 0, state: State::Withheld };
            prop_assert!(all.insert(seq, withheld).is_none(), "{} is there twice", seq);
        }
    }
    prop_assert_eq!(consumer.unfinished(), all.len());
    prop_assert_eq!(consumer.first_unfinished(), all.keys().next().copied());
    Ok(all)
}

/// Compares a consumer's indexes with its messages.
fn check_states(consumer: &Consumer) -> Checked {
    let counts = consumer.counts();
    let messages = unfinished(consumer)?;
    let of = |state: fn(&State) -> bool| messages.values().filter(|m| state(&m.state)).count();
    prop_assert_eq!(counts.ready, of(|s| matches!(s, State::Ready)));
    prop_assert_eq!(counts.withheld, of(|s| matches!(s, State::Withheld)));
    prop_assert_eq!(counts.in_flight, of(|s| matches!(s, State::InFlight(_))));
    prop_assert_eq!(counts.delayed, of(|s| matches!(s, State::Delayed { .. })));
    let due = messages.values().filter_map(|message| match message.state {
        State::InFlight(lease) => Some(lease.due).filter(|_| !lease.pinned),
        State::Delayed { until } => Some(until),
        _ => None,
    });
    prop_assert_eq!(consumer.next_due(), due.min());
    let is_idle = counts.ready + counts.in_flight + counts.delayed == 0;
    prop_assert!(!consumer.is_full() || !is_idle && !consumer.wants_more(), "full for ever");
    if !consumer.settings().ordered {
        prop_assert_eq!(counts.withheld, 0);
        return Ok(());
    }
    // Of each key: the lowest of the idle is ready unless one is busy.
    let mut keys: BTreeMap<KeyId, (bool, Vec<State>)> = BTreeMap::new();
    for message in messages.values() {
        let (is_busy, idle) = keys.entry(message.key).or_default();
        match message.state {
            State::Ready | State::Withheld => idle.push(message.state),
            _ => *is_busy = true,
        }
    }
    for (is_busy, idle) in keys.values() {
        for (n, state) in idle.iter().enumerate() {
            let expected = if n == 0 && !is_busy { State::Ready } else { State::Withheld };
            prop_assert_eq!(*state, expected);
        }
    }
    Ok(())
}
