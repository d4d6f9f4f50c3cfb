//! Bringing consumers in: the first time that somebody uses it, a consumer's stream is opened, and its state read.

use super::exchange::{Answer, Asked};
use super::interface::{Effect, End, Failure, Shared};
use super::reading::RETRY_LOCKED;
use super::recovery::{Recovered, recover};
use super::stored::Journal;
use super::world::{LastCheckpoint, StreamEntry};
use super::{Dispatcher, Step};
use crate::consumer_state::ConsumerState;
use crate::fault::{Fault, Known};
use crate::filter::Filter;
use crate::ids::{ConsumerId, StreamId};
use crate::stream::Stream;

/// Whether a consumer is in memory.
pub(super) enum Loaded {
    Yes,
    /// It is being read.
    Soon,
    /// It can't be: the answer to requests.
    No(Answer),
}

impl Dispatcher {
    /// Has the consumer's state in memory, or has it read.
    pub(super) fn load<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) -> Loaded {
        let Some(entry) = self.world.consumers.get_mut(&id) else {
            return Loaded::No(Answer::NoConsumer);
        };
        if entry.loaded {
            return Loaded::Yes;
        }
        if entry.loading {
            return Loaded::Soon;
        }
        if s.now() < self.retry_loading_at {
            return Loaded::No(Answer::NotNow);
        }
        let Some((stream, of)) =
            entry.stream.and_then(|stream| Some((stream, self.world.streams.get_mut(&stream)?)))
        else {
            return Loaded::No(Answer::NoConsumer);
        };
        entry.loading = true;
        let is_open = of.stream.is_some();
        if !is_open {
            of.to_restore.push(id);
            of.open(stream, s);
        }
        // Its journal is read with all that it did before.
        if !self.unwritten(id).is_empty() {
            self.write_events(s);
        }
        if is_open {
            s.out.push(Effect::Restore(id));
        }
        Loaded::Soon
    }

    pub(super) fn opened<S: Shared>(
        &mut self,
        id: StreamId,
        read: Result<Known, Failure>,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.streams.get_mut(&id) else { return };
        entry.opening = false;
        let to_restore = std::mem::take(&mut entry.to_restore);
        let to_check = std::mem::take(&mut entry.to_check);
        match read {
            Ok(known) => {
                entry.known = known;
                entry
                    .stream
                    .get_or_insert_with(|| Stream::new(known.last, &s.shared.publishers(id)));
                self.read_well(id);
                self.note_fault(id, None, s);
                s.out.extend(to_restore.into_iter().map(Effect::Restore));
                for (consumer, recovered) in to_check {
                    self.check_again(consumer, id, recovered, s);
                }
            }
            Err(failure) => {
                let answer = match &failure {
                    Failure::Damaged(fault) => {
                        let fault = *fault;
                        self.note_fault(id, Some(fault), s);
                        Answer::Damaged(fault.to_string())
                    }
                    Failure::Missing => Answer::NoConsumer,
                    Failure::Locked => Answer::NotNow,
                    Failure::Error { .. } => {
                        let text = format!("cannot open stream \"{}\": {failure}", entry.name);
                        s.out.push(Effect::Log(text));
                        Answer::NotNow
                    }
                };
                let to_check = to_check.into_iter().map(|(consumer, _)| consumer);
                for consumer in to_restore.into_iter().chain(to_check) {
                    self.refuse_load(consumer, &answer, s);
                }
            }
        }
        self.fill_all(s);
    }

    pub(super) fn restored<S: Shared>(
        &mut self,
        id: ConsumerId,
        read: Result<Journal, Failure>,
        s: &mut Step<S>,
    ) {
        self.take_in(id, read, s);
        self.fill_all(s);
    }

    fn take_in<S: Shared>(
        &mut self,
        id: ConsumerId,
        read: Result<Journal, Failure>,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.consumers.get(&id).filter(|entry| entry.loading) else {
            return;
        };
        let read = read.and_then(|journal| {
            let impossible = |text| Failure::Error { text, is_lock: false };
            recover(&entry.config, journal, s.clock).map_err(impossible)
        });
        let recovered = match read {
            Ok(recovered) => recovered,
            Err(failure) => {
                if failure.is_lock() {
                    self.retry_loading_at = s.now() + RETRY_LOCKED;
                }
                self.fail_consumer(id, "cannot read its state", &failure.to_string(), s);
                return self.refuse_load(id, &Answer::NotNow, s);
            }
        };
        if !self.ids.are_above(recovered.highest) {
            // Its journal is from a later epoch than this dispatcher: from a dump that was restored meanwhile.
            for asked in self.stop_loading(id) {
                s.shared.ask_again(asked.session, asked.request_id);
            }
            s.out.push(Effect::End(End::NeedsEpoch));
            return;
        }
        let Some((stream, of)) =
            entry.stream.and_then(|stream| Some((stream, self.world.streams.get_mut(&stream)?)))
        else {
            return self.refuse_load(id, &Answer::NoConsumer, s);
        };
        if recovered.max_delivered <= of.known.last {
            self.finish_load(id, recovered, s);
        } else {
            of.to_check.push((id, recovered));
            of.open(stream, s);
        }
    }

    /// A consumer had been delivered higher seqs than its stream's sequence was known to have handed out. The sequence
    /// has been read again: it has handed them out by now, or the stream is damaged.
    fn check_again<S: Shared>(
        &mut self,
        id: ConsumerId,
        stream: StreamId,
        recovered: Recovered,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.streams.get_mut(&stream) else { return };
        let (last, known) = (entry.known.last, recovered.max_delivered);
        if known <= last {
            return self.finish_load(id, recovered, s);
        }
        // It is found again at each look, until the sequence has reached that.
        entry.known.last = known;
        let fault = Fault::WentBack { last, known };
        self.note_fault(stream, Some(fault), s);
        self.refuse_load(id, &Answer::Damaged(fault.to_string()), s);
    }

    fn finish_load<S: Shared>(&mut self, id: ConsumerId, recovered: Recovered, s: &mut Step<S>) {
        if !self.put(id, recovered.state) {
            return self.refuse_load(id, &Answer::NotNow, s);
        }
        let cursor = self.world.cursor(id).unwrap_or(0);
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        entry.loaded = true;
        entry.checkpoint = LastCheckpoint { cursor, ..recovered.checkpoint };
        entry.applied = recovered.applied;
        // Leases that ran out while nobody looked.
        if let Some(consumer) = self.world.stream_of_mut(id).and_then(|s| s.consumer_mut(id)) {
            consumer.tick(&mut Self::context(&mut self.ids, s.clock));
        }
        self.note_loaded(id, s);
        self.stop_loading(id).into_iter().for_each(|asked| self.serve(asked, s));
    }

    /// Puts a consumer back to where it is: what it has loaded and not delivered is read again, by the filters and the
    /// order that it has now.
    pub(super) fn put_again<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        // Events are the consumer's, which is made anew.
        self.account(id, s);
        if let Some(state) = self.world.stream_of(id).and_then(|stream| stream.state(id)) {
            self.put(id, state);
        }
    }

    /// Puts a consumer into its stream in this state, as it is configured; false if there is no stream.
    pub(super) fn put(&mut self, id: ConsumerId, state: ConsumerState) -> bool {
        let Some(entry) = self.world.consumers.get(&id) else { return false };
        let (filters, settings) = (parse(&entry.config.filters), entry.config.settings.clone());
        let Some(stream) = self.world.stream_of_mut(id) else { return false };
        stream.put(id, filters, settings, state);
        self.world.touched.insert(id);
        true
    }

    /// A consumer can't be loaded: answers the requests that wait for it with the reason.
    pub(super) fn refuse_load<S: Shared>(
        &mut self,
        id: ConsumerId,
        answer: &Answer,
        s: &mut Step<S>,
    ) {
        for asked in self.stop_loading(id) {
            s.shared.answer(asked.session, asked.request_id, answer, false);
        }
    }

    /// A consumer is no longer being loaded. Returns the requests that have waited for it.
    fn stop_loading(&mut self, id: ConsumerId) -> Vec<Asked> {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return Vec::new() };
        entry.loading = false;
        std::mem::take(&mut entry.asked)
    }
}

impl StreamEntry {
    fn open<S>(&mut self, id: StreamId, s: &mut Step<S>) {
        if !std::mem::replace(&mut self.opening, true) {
            s.out.push(Effect::Open { stream: id, known: self.known });
        }
    }
}

/// Filters were checked when they were set; one that a later version can't read matches nothing.
fn parse(filters: &[String]) -> Vec<Filter> {
    filters.iter().filter_map(|filter| Filter::parse(filter).ok()).collect()
}
