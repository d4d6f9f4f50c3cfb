//! Sessions that want messages: in a queue for each consumer, first come, first served, until there is something or
//! their time is over.
//!
//! Expiry is judged by the clock at the begin of a **fill**, which may take several reads of the table. A session gets
//! an empty answer only if its deadline had passed before the last look began that found nothing.

use super::exchange::Answer;
use super::fast_path::FastPathGrant;
use super::interface::Shared;
use super::reading::Supply;
use super::waiters::Waiter;
use super::{Dispatcher, Step};
use crate::ids::{AckRowId, ConsumerId, StreamId};
use crate::pending::{Consumers, Operation};
use crate::settings::Micros;
use crate::wire;

/// The sessions that wait for a consumer are being served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    /// When it began. Sessions whose deadlines had passed then get an answer at its end, if need be an empty one.
    pub now: Micros,
    /// How many looks had read the stream's tail to its end when this began: a later one may have found something new.
    pub looks: u64,
    pub reads: usize,
    /// It waits for a read.
    pub is_reading: bool,
    /// The table could not be read.
    pub failed: bool,
}

/// What became of a request for messages.
enum Outcome {
    Granted,
    /// What was there has died instead: a lower max_deliver was set.
    Died,
    /// A read is out, whose result decides.
    Reading,
    /// There is nothing for it, as far as is committed.
    Nothing,
    /// Not all that is there has been read: it goes on in the next step.
    Later,
    /// The stream's table can't be read now, or the journal not be written.
    NotNow,
}

impl Outcome {
    /// The answer to sessions whose time is over, if there is one: it is empty only if there was nothing. A session
    /// that is answered `NotNow` waits for the table's lock itself.
    fn at_the_end(&self) -> Option<Answer> {
        match self {
            Outcome::Nothing => Some(Answer::empty()),
            Outcome::NotNow => Some(Answer::NotNow),
            Outcome::Granted | Outcome::Died | Outcome::Reading | Outcome::Later => None,
        }
    }
}

impl Dispatcher {
    /// Puts the session in the consumer's queue, which is served when all requests are in: one look at the stream is for
    /// all who wait.
    pub(super) fn receive<S: Shared>(&mut self, id: ConsumerId, waiter: Waiter, s: &mut Step<S>) {
        if waiter.until > s.now() {
            self.listen_to(id, s);
            self.next_wait = self.next_wait.map(|next| next.min(waiter.until));
        }
        self.sessions.of(waiter.session, waiter.pid).waits_for = Some(id);
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.waiting.push(waiter);
        }
        self.waited_for.insert(id);
        self.to_fill.insert(id);
    }

    /// Publishers to these streams have ended: there may be something new.
    pub(super) fn note_published(&mut self, streams: Vec<StreamId>) {
        for &stream in &streams {
            if let Some(entry) = self.world.streams.get_mut(&stream) {
                entry.caught_up = false;
            }
        }
        self.published.extend(streams);
    }

    /// Gives sessions that wait what has become ready, or an empty answer when their time is over.
    pub(super) fn fill_with_news<S: Shared>(&mut self, s: &mut Step<S>) {
        let more = std::mem::take(&mut self.has_more);
        self.to_fill.extend(more);
        let is_time = self.next_wait.is_none_or(|next| next <= s.now());
        if is_time {
            self.to_fill.extend(&self.waited_for);
            self.next_wait = None;
        } else if !self.published.is_empty() {
            let has_news = |id: &&ConsumerId| {
                let stream = self.world.stream_id(**id);
                stream.is_none_or(|stream| self.published.contains(&stream))
            };
            self.to_fill.extend(self.waited_for.iter().filter(has_news));
        }
        self.fill_all(s);
        self.stop_listening(s);
    }

    /// Serves those who may be served now.
    pub(super) fn fill_all<S: Shared>(&mut self, s: &mut Step<S>) {
        self.to_fill.extend(self.world.touched.intersection(&self.waited_for));
        while let Some(id) = self.to_fill.pop_first() {
            self.fill(id, s);
        }
        self.take_account(s);
        if self.next_wait.is_none() && self.reads == 0 {
            self.next_wait = Some(self.find_next_wait(s.now()));
        }
        let is_waited_for = !self.waited_for.is_empty();
        if std::mem::replace(&mut self.is_waited_for, is_waited_for) != is_waited_for {
            self.look_again |= s.shared.set_waited_for(is_waited_for);
        }
    }

    /// When the next wait ends, or a locked table is tried again.
    fn find_next_wait(&self, now: Micros) -> Micros {
        let ends = self.waited_for.iter().filter_map(|id| self.world.consumers.get(id)).flat_map(
            |entry| {
                let stream = entry.stream.and_then(|stream| self.world.streams.get(&stream));
                let retry = stream.map(|stream| stream.retry_at).filter(|&at| at > now);
                retry.into_iter().chain([entry.waiting.next_end()])
            },
        );
        ends.min().unwrap_or(Micros::MAX)
    }

    /// Gives the sessions that wait for a consumer what there is, first come, first served.
    fn fill<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        let looks = self.world.entry_of(id).map_or(0, |stream| stream.looks);
        while let Some(entry) = self.world.consumers.get_mut(&id) {
            if entry.waiting.is_empty() {
                entry.fill = None;
                break;
            }
            let begun =
                Fill { now: s.clock.mono, looks, reads: 0, is_reading: false, failed: false };
            let fill = *entry.fill.get_or_insert(begun);
            if fill.is_reading {
                return;
            }
            let outcome = self.grant(id, fill, s);
            match outcome {
                Outcome::Granted | Outcome::Died => continue,
                Outcome::Reading => return,
                _ if self.refuse_if_damaged(id, s) => continue,
                Outcome::Later => drop(self.has_more.insert(id)),
                Outcome::Nothing | Outcome::NotNow => {}
            }
            if let Some(entry) = self.world.consumers.get_mut(&id) {
                entry.fill = None;
            }
            if let Some(answer) = outcome.at_the_end() {
                self.end_waits(id, fill.now, &answer, s);
            }
            break;
        }
        if self.world.consumers.get(&id).is_none_or(|entry| entry.waiting.is_empty()) {
            self.waited_for.remove(&id);
        }
    }

    /// Hands out up to a batch to the next one who waits, if there is anything.
    fn grant<S: Shared>(&mut self, id: ConsumerId, fill: Fill, s: &mut Step<S>) -> Outcome {
        if self.is_behind_with_writing(id, s.now()) {
            self.held_back.insert(id);
            return Outcome::NotNow;
        }
        let Some(entry) = self.world.consumers.get(&id) else { return Outcome::Nothing };
        let Some(waiter) = entry.waiting.first() else { return Outcome::Nothing };
        let Waiter { session, request_id, pid, batch, ack_wait, .. } = *waiter;
        // Sessions behind it get an empty answer when their time is over, too.
        let can_wait = entry.waiting.next_end() > fill.now;
        let supply = self.supply(id, batch, can_wait, fill, s);
        let nothing = match supply {
            Supply::Reading => return Outcome::Reading,
            Supply::Loaded | Supply::AtTheEnd => Outcome::Nothing,
            Supply::Later => Outcome::Later,
            Supply::NotNow => Outcome::NotNow,
        };
        if matches!(supply, Supply::Later | Supply::NotNow) && self.has_late(id, s) {
            return nothing;
        }
        let mut context = Self::context(&mut self.ids, s.clock);
        let Some(consumer) = self.world.consumer(id) else { return Outcome::Nothing };
        let lease = ack_wait.unwrap_or(consumer.settings().ack_wait);
        let is_any = consumer.deliverable() > 0;
        let batch = wire::fitting(batch, consumer);
        let deliveries = consumer.grant(batch, lease, pid, &mut context);
        let Some(first) = deliveries.first() else {
            return if is_any { Outcome::Died } else { nothing };
        };
        let (first_ack_id, count) = (first.ack_id, deliveries.len());
        let due = s.now().saturating_add(lease);
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.waiting.pop();
        }
        // Of the row of sequin.acks, if the session finishes them without asking.
        let ack_row_id = AckRowId(self.ids.take(1));
        let answer = Answer::Deliveries { ack_row_id, generation: self.generation(id), deliveries };
        let received = Operation::Received { first_ack_id, count };
        let known = self.sessions.of(session, pid);
        known.waits_for = None;
        known.pending.add(request_id, id, received);
        let grant =
            FastPathGrant { request_id, consumer: id, first_ack_id, count, ack_row_id, due };
        self.sessions.set_grant(session, grant);
        if !s.shared.answer(session, request_id, &answer, true) {
            self.abort(session, request_id, s);
        }
        Outcome::Granted
    }

    /// Answers all sessions of the queue whose time is over.
    fn end_waits<S: Shared>(
        &mut self,
        id: ConsumerId,
        now: Micros,
        answer: &Answer,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        for waiter in entry.waiting.take_over(now) {
            self.end_wait(&waiter, answer, s);
        }
    }

    fn end_wait<S: Shared>(&mut self, waiter: &Waiter, answer: &Answer, s: &mut Step<S>) {
        s.shared.answer(waiter.session, waiter.request_id, answer, false);
        if let Some(session) = self.sessions.get_mut(waiter.session) {
            session.waits_for = None;
        }
        self.sessions.forget_if_idle(waiter.session);
    }

    /// Answers all sessions that wait for a consumer with the reason why they get no messages.
    pub(super) fn refuse_waiting<S: Shared>(
        &mut self,
        id: ConsumerId,
        answer: &Answer,
        s: &mut Step<S>,
    ) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        for waiter in entry.waiting.take_all() {
            self.end_wait(&waiter, answer, s);
        }
        self.waited_for.remove(&id);
    }

    /// The consumer is no longer in memory: who waits for it asks for it once more.
    pub(super) fn ask_anew<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        self.waited_for.remove(&id);
        for waiter in entry.waiting.take_all() {
            if let Some(session) = self.sessions.get_mut(waiter.session) {
                session.waits_for = None;
            }
            self.sessions.forget_if_idle(waiter.session);
            self.ask(waiter.into_request(id), s);
        }
    }

    /// Has publishers to this stream wake the dispatcher: before the look that finds nothing.
    fn listen_to<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        let Some(stream) = self.world.stream_id(id) else { return };
        if self.listening.insert(stream) {
            s.shared.listen(&mut self.listening.iter().copied());
            // Those who published just before have woken nobody.
            if let Some(entry) = self.world.streams.get_mut(&stream) {
                entry.caught_up = false;
            }
        }
    }

    /// Stops listening to streams that were published to while nobody waits. Not as soon as nobody waits: a worker that
    /// has got a message is mostly back at once.
    fn stop_listening<S: Shared>(&mut self, s: &mut Step<S>) {
        let published = std::mem::take(&mut self.published);
        if published.is_disjoint(&self.listening) {
            return;
        }
        let waited_for: Vec<StreamId> =
            self.waited_for.iter().filter_map(|&id| self.world.stream_id(id)).collect();
        let before = self.listening.len();
        self.listening.retain(|id| !published.contains(id) || waited_for.contains(id));
        if self.listening.len() != before {
            s.shared.listen(&mut self.listening.iter().copied());
        }
    }
}
