//! Sessions that want messages: in a queue for each consumer, first come, first served, until there is something
//! or their time is over.

use super::Dispatcher;
use super::fast_path::FastPathGrant;
use super::loading::NotLoaded;
use super::reading::Looked;
use super::requests::entries;
use super::waiters::Waiter;
use crate::pg::shared::database::Published;
use crate::pg::shared::mailbox::Answer;
use crate::pg::{self, now};
use pgrx::pg_sys::Oid;
use sequin_engine::consumer::StepContext;
use sequin_engine::pending::{Consumers, Operation};
use sequin_engine::settings::Micros;
use sequin_engine::stream::ConsumerId;

/// What became of a request for messages.
enum Outcome {
    Answered,
    /// There is nothing for it, as far as is committed.
    Nothing,
    /// Not all that is there has been read: it goes on in the next step.
    Later,
    /// The stream's table can't be read now, or the journal not be written.
    NotNow,
}

impl Outcome {
    /// What those are told whose time is over: that there is nothing only if there was nothing. From who finds the table
    /// locked it learns that, and waits for the lock itself.
    fn at_the_end(&self) -> Option<Answer> {
        match self {
            Outcome::Answered | Outcome::Later => None,
            Outcome::Nothing => Some(empty()),
            Outcome::NotNow => Some(Answer::NotNow),
        }
    }
}

pub(super) fn empty() -> Answer {
    Answer::Deliveries { ack_row_id: 0, generation: 0, deliveries: Vec::new() }
}

impl Dispatcher {
    /// Puts the session in the consumer's queue, which is served when all of this step's requests are in: one look at the
    /// stream is for all who wait.
    pub(super) fn receive(&mut self, id: ConsumerId, waiter: Waiter) -> Result<(), NotLoaded> {
        self.at(id)?;
        let (n, pid) = (waiter.session, waiter.pid);
        if waiter.until > now() {
            self.listen_to(id);
            self.next_wait = self.next_wait.min(waiter.until);
        }
        self.session(n, pid).waits_for = Some(id);
        if let Some(state) = self.world.consumers.get_mut(&id) {
            state.waiting.push(waiter);
        }
        self.waiting_on.insert(id);
        Ok(())
    }

    /// Hands out up to a batch, if there is anything.
    fn grant(&mut self, id: ConsumerId, waiter: &Waiter, now: Micros) -> Outcome {
        if self.is_behind_with_writing(id) {
            self.held_back.insert(id);
            return Outcome::NotNow;
        }
        // Those behind it are told that there is nothing when their time is over, too.
        let others = self.world.consumers.get(&id).map_or(0, |state| state.waiting.next_end());
        let looked = self.load_messages(id, waiter.batch, waiter.until.min(others) > now);
        let nothing = match looked {
            Looked::Well => Outcome::Nothing,
            Looked::More => Outcome::Later,
            Looked::NotNow => Outcome::NotNow,
        };
        if looked != Looked::Well && self.has_late(id) {
            return nothing;
        }
        let mut moment = StepContext { now: pg::now(), ids: &mut self.ids };
        let Some(consumer) = self.world.consumer(id) else { return Outcome::Nothing };
        let lease = waiter.ack_wait.unwrap_or(consumer.settings().ack_wait);
        let deliveries = consumer.grant(waiter.batch, lease, waiter.pid, &mut moment);
        let Some(first) = deliveries.first() else { return nothing };
        let (first_ack_id, count) = (first.ack_id, deliveries.len());
        let due = moment.now.saturating_add(lease);
        // Of the row of sequin.acks, if the session finishes them on its own word.
        let ack_row_id = self.ids.take(1);
        let answer = Answer::Deliveries { ack_row_id, generation: self.generation(id), deliveries };
        let session = self.session(waiter.session, waiter.pid);
        session.pending.add(waiter.request_id, id, Operation::Received { first_ack_id, count });
        let request = waiter.request_id;
        session.fast_path =
            Some(FastPathGrant { request, consumer: id, first_ack_id, count, ack_row_id, due });
        self.next_tick = self.next_tick.min(due);
        if !entries().get(waiter.session).is_some_and(|entry| entry.grant(request, &answer)) {
            self.abort(waiter.session, request);
        }
        Outcome::Answered
    }

    /// Gives sessions that wait what has become ready, or an empty answer when their time is over.
    pub(super) fn fill_waiting(&mut self, published: &Published) {
        let now = now();
        let mut news = std::mem::take(&mut self.has_more);
        news.extend(self.world.touched.iter().filter(|id| self.waiting_on.contains(id)));
        let is_time = now >= self.next_wait;
        if is_time || !published.is_empty() {
            let has_news = |id: &&ConsumerId| {
                let table = self.world.table_of(**id);
                is_time || table.is_none_or(|table| published.contains(table))
            };
            news.extend(self.waiting_on.iter().filter(has_news));
        }
        for id in news {
            self.fill(id, now);
        }
        if is_time {
            let waiting = self.waiting_on.iter().filter_map(|id| self.world.consumers.get(id));
            let ends = waiting.flat_map(|state| {
                let retry = self.world.streams.get(&state.config.stream).map(|s| s.retry_at);
                retry.filter(|&at| at > now).into_iter().chain([state.waiting.next_end()])
            });
            self.next_wait = ends.min().unwrap_or(Micros::MAX);
        }
        self.stop_listening(published);
    }

    /// Has publishers to this stream wake the dispatcher: before the look that finds nothing.
    fn listen_to(&mut self, id: ConsumerId) {
        let Some(table) = self.world.table_of(id) else { return };
        if self.listening.insert(table) {
            self.database.listen(self.listening.iter().copied());
            // Who published just before has woken nobody.
            self.caught_up.remove(&table);
        }
    }

    /// Stops listening to streams that were published to while nobody waits. Not as soon as nobody waits:
    /// a worker that has got a message is mostly back at once.
    fn stop_listening(&mut self, published: &Published) {
        if published.is_empty() || self.listening.is_empty() {
            return;
        }
        let waited_for: Vec<Oid> =
            self.waiting_on.iter().filter_map(|&id| self.world.table_of(id)).collect();
        let before = self.listening.len();
        self.listening.retain(|&table| !published.contains(table) || waited_for.contains(&table));
        if self.listening.len() != before {
            self.database.listen(self.listening.iter().copied());
        }
    }

    /// Gives those who wait for a consumer what there is, first come, first served. Whose time is over is said by one clock
    /// reading: nobody is told that there is nothing who could still wait when that was looked for.
    fn fill(&mut self, id: ConsumerId, now: Micros) {
        while let Some(waiter) = self.world.consumers.get_mut(&id).and_then(|s| s.waiting.pop()) {
            let outcome = self.grant(id, &waiter, now);
            if let Outcome::Answered = outcome {
                self.stop_waiting(waiter.session);
                continue;
            }
            if self.fault_of(id).is_some() {
                self.put_back(id, waiter);
                self.refuse_if_damaged(id);
                return;
            }
            let answer = outcome.at_the_end();
            match &answer {
                Some(answer) if waiter.until <= now => self.end_wait(&waiter, answer),
                _ => self.put_back(id, waiter),
            }
            if let Some(answer) = answer {
                self.end_waits(id, now, &answer);
            }
            break;
        }
        if self.world.consumers.get(&id).is_none_or(|state| state.waiting.is_empty()) {
            self.waiting_on.remove(&id);
        }
    }

    fn put_back(&mut self, id: ConsumerId, waiter: Waiter) {
        self.next_wait = self.next_wait.min(waiter.until);
        if let Some(state) = self.world.consumers.get_mut(&id) {
            state.waiting.put_back(waiter);
        }
    }

    fn stop_waiting(&mut self, entry: usize) {
        if let Some(session) = self.sessions.get_mut(&entry) {
            session.waits_for = None;
        }
    }

    /// Answers those, also further back in the queue, whose time is over.
    fn end_waits(&mut self, id: ConsumerId, now: Micros, answer: &Answer) {
        let Some(state) = self.world.consumers.get_mut(&id) else { return };
        for waiter in state.waiting.take_over(now) {
            self.end_wait(&waiter, answer);
        }
    }

    fn end_wait(&mut self, waiter: &Waiter, answer: &Answer) {
        self.answer(waiter.session, waiter.request_id, answer);
        self.stop_waiting(waiter.session);
    }

    /// Tells those who wait for a consumer that there is none, or why there is nothing to be had.
    pub(super) fn refuse_waiting(&mut self, id: ConsumerId, answer: &Answer) {
        let Some(state) = self.world.consumers.get_mut(&id) else { return };
        for waiter in state.waiting.take_all() {
            self.answer(waiter.session, waiter.request_id, answer);
            if let Some(session) = self.sessions.get_mut(&waiter.session) {
                session.waits_for = None;
            }
        }
        self.waiting_on.remove(&id);
    }
}
