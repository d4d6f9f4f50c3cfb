//! Restarts, changes of settings, and rewinds.

use super::Checked;
use super::dispatcher::Dispatcher;
use super::op::{Alter, Restart, SESSIONS};
use super::reference::Reference;
use super::run::{Run, Watched};
use super::world::{Config, Record};
use crate::consumer::State;
use crate::consumer_state::ConsumerState;
use crate::ids::ConsumerId;
use crate::key::{Seq, key_id};
use proptest::prelude::*;

impl Run {
    pub fn restart(&mut self, how: Restart) -> Checked {
        match how {
            Restart::Clean { checkpoints } => self.stop(checkpoints.into())?,
            Restart::Killed => {}
            Restart::PowerCut { kept } => self.cut_power(kept.into()),
        }
        let lost = !matches!(how, Restart::Clean { .. });
        for (id, watched) in &mut self.watched {
            if self.dispatcher.loaded.contains_key(id) {
                let mut reference = std::mem::take(&mut watched.reference);
                reference.unpin_all();
                watched.before = Some(reference).filter(|_| !lost);
            }
        }
        self.sessions.iter_mut().for_each(|session| session.lose_dispatcher());
        self.dispatcher = Dispatcher::start(&mut self.world);
        Ok(())
    }

    /// Writes everything, some of it as checkpoints.
    fn stop(&mut self, checkpoints: usize) -> Checked {
        (0..SESSIONS).try_for_each(|s| self.notice(s))?;
        self.collect()?;
        for id in self.dispatcher.loaded.keys().copied().collect::<Vec<_>>() {
            if checkpoints >> id.0 & 1 == 1 {
                self.dispatcher.checkpoint(id, &mut self.world)?;
            } else {
                self.dispatcher.write_outbox(id, &mut self.world);
            }
        }
        Ok(())
    }

    fn cut_power(&mut self, kept: usize) {
        self.world.cut_power(kept);
        self.sessions.iter_mut().for_each(|session| session.lose_server());
        // The sequence may skip some values.
        let last = self.world.now.last + Seq::from(kept as u8 % 3);
        self.world.write(Record::Sequence(last), true);
        let messages = &self.world.now.messages;
        self.ended.retain(|seq, _| messages.contains_key(seq));
        for &seq in messages.keys() {
            self.ended.entry(seq).or_insert(self.step);
        }
        for watched in self.watched.values_mut() {
            watched.before = None;
            watched.maybe.retain(|seq| messages.contains_key(seq));
            watched.raced.retain(|seq| messages.contains_key(seq));
        }
    }

    /// A consumer has been loaded: its state must be that of its journal, and if nothing was lost, that of before.
    pub fn compare_with_history(&mut self, id: ConsumerId) -> Checked {
        let row = self.world.consumer(id)?;
        let config = row.config.clone();
        let mut reference = Reference::of_history(row.config.start, &row.history);
        // The end of a delay is not journalled: it is over if a checkpoint says so.
        let ticked = self.ticked;
        let loaded = &self.dispatcher.consumer(id)?.messages;
        let is_delayed =
            |seq: &Seq| matches!(loaded.get(seq).map(|m| m.state), Some(State::Delayed { .. }));
        reference.delays.retain(|seq, until| *until > ticked || is_delayed(seq));
        // A redelivery that was overtaken may be forgotten.
        let mut raced = self.watched(id).raced.clone();
        raced.retain(|&seq| self.wants(id, seq).unwrap_or(true));
        raced.iter().for_each(|&seq| reference.reopen(seq));
        let watched = self.watched.entry(id).or_default();
        if let Some(mut before) = watched.before.take() {
            for &seq in watched.raced.difference(&raced) {
                before.finish(seq);
            }
            let mut now = reference.clone();
            now.delays.retain(|seq, until| *until > ticked || before.delays.contains_key(seq));
            prop_assert_eq!(before, now, "consumer {} after a restart", id);
        }
        watched.reference = reference;
        watched.raced = raced;
        // The end of such a delivery was lost, and the filters that don't match it are newer.
        let messages = &self.world.now.messages;
        let is_foreign = |seq: &&Seq| messages.get(seq).is_some_and(|m| !config.matches(m.key));
        watched.maybe.extend(watched.reference.deliveries.keys().filter(is_foreign));
        self.check(id)
    }

    pub fn alter(&mut self, id: ConsumerId, what: Alter, value: usize, anew: bool) -> Checked {
        self.load(id)?;
        let old = self.world.config(id)?;
        let mut new = old.clone();
        let settings = &mut new.settings;
        match what {
            Alter::MaxAckPending => settings.max_ack_pending = [1, 2, 5, 1000][value % 4],
            Alter::MaxDeliver => {
                settings.max_deliver = [None, Some(1), Some(2), Some(3)][value % 4]
            }
            Alter::Backoff => {
                settings.backoff = [vec![], vec![30], vec![10, 200]][value % 3].clone()
            }
            Alter::Ordered => settings.ordered = !settings.ordered,
            Alter::Paused => settings.paused = value.is_multiple_of(4),
            Alter::Filters => new.filters = value,
        }
        self.expect_filters(id, &old, &new)?;
        self.configure(id, &old, new, anew)
    }

    /// Applies new settings to the consumer: in place, or by replacing it in the same state.
    pub fn configure(&mut self, id: ConsumerId, old: &Config, new: Config, anew: bool) -> Checked {
        self.world.write(Record::Configure(id, new.clone()), true);
        let applies_in_place =
            old.filters == new.filters && old.settings.ordered == new.settings.ordered;
        self.collect()?;
        let stream = self.dispatcher.stream_mut()?;
        if applies_in_place && !anew {
            stream.consumer_mut(id).into_iter().for_each(|c| c.set(new.settings.clone()));
        } else {
            let state = stream.state(id).unwrap_or_default();
            stream.put(id, new.parsed_filters(), new.settings, state);
        }
        self.check(id)
    }

    /// After a change of filters, a message that only the old or only the new ones match, and that was offered before,
    /// may be delivered or not. A checkpoint may know of an offer that memory has forgotten, if the consumer was
    /// replaced since.
    fn expect_filters(&mut self, id: ConsumerId, old: &Config, new: &Config) -> Checked {
        let stream = self.dispatcher.stream()?;
        let cursor = stream.cursor(id).unwrap_or_default();
        let consumer = self.dispatcher.consumer(id)?;
        let checkpoint = self.world.consumer(id)?.checkpoint.as_ref().map(|saved| &saved.state);
        let mut open = Vec::new();
        for (&seq, message) in &self.world.now.messages {
            let is_past = seq <= cursor && !stream.tail().is_hole(seq);
            let is_saved =
                checkpoint.is_some_and(|saved| seq <= saved.floor || saved.done.contains(seq));
            let is_offered = is_past || is_saved || consumer.done.contains(seq);
            if old.matches(message.key) != new.matches(message.key)
                && (is_offered || consumer.is_unfinished(seq, key_id(message.key)))
            {
                open.push(seq);
            }
        }
        let watched = self.watched(id);
        open.retain(|&seq| !watched.reference.is_finished(seq));
        watched.maybe.extend(open);
        Ok(())
    }

    pub fn rewind(&mut self, id: ConsumerId, to: usize) -> Checked {
        let range = usize::try_from(self.world.now.last).unwrap_or(0) + 5;
        let start = Seq::try_from(to % range).unwrap_or(0);
        let old = self.world.config(id)?;
        let new = Config { generation: old.generation + 1, start, ..old };
        self.world.write(Record::Configure(id, new.clone()), true);
        let reference = Reference::new(start);
        *self.watched(id) = Watched { reference, ..Watched::default() };
        if self.dispatcher.loaded.contains_key(&id) {
            self.dispatcher.rewind(id, new.generation);
            let state = ConsumerState::start(start, Default::default());
            let stream = self.dispatcher.stream_mut()?;
            stream.put(id, new.parsed_filters(), new.settings, state);
            self.check(id)?;
        }
        Ok(())
    }
}
