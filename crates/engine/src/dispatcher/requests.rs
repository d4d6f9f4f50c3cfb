//! Serving sessions: what became of their transactions, and what they ask.

use super::exchange::{Answer, Asked, Outcome, Request};
use super::interface::Shared;
use super::loading::Loaded;
use super::waiters::Waiter;
use super::{Dispatcher, Step};
use crate::consumer::{Consumer, Delivery, Lease, StepContext};
use crate::ids::{AckId, AckRowId, ConsumerId, Generation, RequestId, SessionId};
use crate::key::{KeyId, Seq};
use crate::pending::{Consumers, Operation};
use crate::wire::LEASES_PER_ANSWER;

impl Dispatcher {
    /// What became of a session's transaction.
    pub(super) fn settle<S: Shared>(&mut self, outcome: Outcome, s: &mut Step<S>) {
        let id = outcome.session;
        if let Some(ack) = &outcome.fast_path_ack {
            let has_committed = outcome.committed_upto >= Some(ack.request_id);
            self.apply_fast_path_ack(id, ack, has_committed);
        }
        if let Some(from) = outcome.aborted_from {
            self.abort(id, from, s);
        }
        if let Some(upto) = outcome.committed_upto {
            self.commit(id, upto, s);
        }
        // If another process has the entry now: all that the one before did is void.
        if self.sessions.get(id).is_some_and(|session| session.pid != outcome.pid) {
            self.abort(id, RequestId::NONE, s);
        }
    }

    fn commit<S: Shared>(&mut self, id: SessionId, upto: RequestId, s: &mut Step<S>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let mut context = Self::context(&mut self.ids, s.clock);
        for applied in session.pending.commit(upto, &mut self.world, &mut context) {
            if let Some(entry) = self.world.consumers.get_mut(&applied.consumer) {
                entry.applied.push(applied.ack_row_id);
            }
        }
        self.sessions.forget_if_idle(id);
    }

    /// A session's transaction, or a part of it, has rolled back all that it asked for from this request on.
    pub(super) fn abort<S: Shared>(&mut self, id: SessionId, from: RequestId, s: &mut Step<S>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let mut context = Self::context(&mut self.ids, s.clock);
        session.pending.abort(from, &mut self.world, &mut context);
        let waits_for = session.waits_for.take();
        self.sessions.take_grant(id, |grant| grant.request_id >= from);
        self.sessions.forget_if_idle(id);
        if let Some(entry) = waits_for.and_then(|id| self.world.consumers.get_mut(&id)) {
            entry.waiting.remove(id);
        }
    }

    /// Serves a request, or has it wait for its consumer to be loaded.
    pub(super) fn ask<S: Shared>(&mut self, asked: Asked, s: &mut Step<S>) {
        if !self.config_read {
            return s.shared.ask_again(asked.session, asked.request_id);
        }
        let consumer = match asked.request {
            Request::Stats { after } => return self.report(&asked, after, s),
            Request::LastError { consumer } => {
                let answer = self.last_error(consumer);
                s.shared.answer(asked.session, asked.request_id, &answer, false);
                return;
            }
            Request::Receive { consumer, .. }
            | Request::Finish { consumer, .. }
            | Request::Nack { consumer, .. }
            | Request::Redeliver { consumer, .. }
            | Request::Extend { consumer, .. }
            | Request::Gone { consumer, .. }
            | Request::InFlight { consumer, .. } => consumer,
        };
        self.note_use(consumer, s);
        match self.load(consumer, s) {
            Loaded::Yes => self.serve(asked, s),
            Loaded::Soon => {
                if let Some(entry) = self.world.consumers.get_mut(&consumer) {
                    entry.asked.push(asked);
                }
            }
            Loaded::No(answer) => {
                s.shared.answer(asked.session, asked.request_id, &answer, false);
            }
        }
    }

    /// Serves a request about a consumer that is loaded.
    pub(super) fn serve<S: Shared>(&mut self, asked: Asked, s: &mut Step<S>) {
        let Asked { session, request_id, pid, request } = asked;
        let who = (session, request_id, pid);
        let answer = match request {
            Request::Receive { consumer, batch, ack_wait, until } => {
                let waiter = Waiter { session, request_id, pid, batch, ack_wait, until };
                return self.receive(consumer, waiter, s);
            }
            Request::Finish { consumer, rejected, ack_ids } => {
                let pinned = self.pin(consumer, &ack_ids, s);
                let ack_row_id = AckRowId(self.ids.take(1));
                let operation = |ack_ids| Operation::Finish { ack_ids, ack_row_id, rejected };
                return self.begin(who, consumer, ack_row_id, pinned, operation, s);
            }
            Request::Nack { consumer, delay, ack_ids } => {
                let pinned = self.pin(consumer, &ack_ids, s);
                let operation = |ack_ids| Operation::Nack { ack_ids, delay };
                return self.begin(who, consumer, AckRowId::default(), pinned, operation, s);
            }
            Request::Redeliver { consumer, messages } => {
                return self.redeliver(who, consumer, messages, s);
            }
            Request::Extend { consumer, ack_wait, ack_ids } => {
                self.revoke_of(&ack_ids, s);
                let live = self.at(consumer, s).map_or(0, |(consumer, mut context)| {
                    let lease = ack_wait.unwrap_or(consumer.settings().ack_wait);
                    ack_ids.iter().filter(|id| consumer.extend(**id, lease, &mut context)).count()
                });
                Answer::Count(i64::try_from(live).unwrap_or(0))
            }
            Request::Gone { consumer, ack_ids } => {
                self.revoke_of(&ack_ids, s);
                if let Some((consumer, mut context)) = self.at(consumer, s) {
                    ack_ids.into_iter().for_each(|ack_id| consumer.gone(ack_id, &mut context));
                }
                Answer::Count(0)
            }
            Request::InFlight { consumer, after } => {
                let leases = self.at(consumer, s).map(|(consumer, context)| {
                    let by_wall = |(lease, seq, n): (Lease, Seq, u32)| {
                        (Lease { due: context.wall(lease.due), ..lease }, seq, n)
                    };
                    consumer.in_flight(after).take(LEASES_PER_ANSWER).map(by_wall).collect()
                });
                Answer::InFlight(leases.unwrap_or_default())
            }
            Request::Stats { .. } | Request::LastError { .. } => return,
        };
        s.shared.answer(session, request_id, &answer, false);
    }

    /// A consumer that is loaded, up to date: what is due has run out, whether or not anybody has looked.
    fn at<S: Shared>(
        &mut self,
        id: ConsumerId,
        s: &mut Step<S>,
    ) -> Option<(&mut Consumer, StepContext<'_>)> {
        self.revoke_due(s);
        let mut context = Self::context(&mut self.ids, s.clock);
        let consumer = self.world.consumer(id)?;
        consumer.tick(&mut context);
        Some((consumer, context))
    }

    fn pin<S: Shared>(
        &mut self,
        id: ConsumerId,
        ack_ids: &[AckId],
        s: &mut Step<S>,
    ) -> Vec<Delivery> {
        self.revoke_of(ack_ids, s);
        let Some((consumer, _)) = self.at(id, s) else { return Vec::new() };
        ack_ids.iter().filter_map(|&ack_id| consumer.pin(ack_id)).collect()
    }

    /// Begins an operation on what was pinned, in the session's transaction, and answers with it.
    fn begin<S: Shared>(
        &mut self,
        (session, request_id, pid): (SessionId, RequestId, i32),
        id: ConsumerId,
        ack_row_id: AckRowId,
        pinned: Vec<Delivery>,
        operation: impl FnOnce(Vec<AckId>) -> Operation,
        s: &mut Step<S>,
    ) {
        if !pinned.is_empty() {
            let operation = operation(pinned.iter().map(|delivery| delivery.ack_id).collect());
            self.sessions.of(session, pid).pending.add(request_id, id, operation);
        }
        let generation = self.generation(id);
        let answer = Answer::Deliveries { ack_row_id, generation, deliveries: pinned };
        if !s.shared.answer(session, request_id, &answer, false) {
            self.abort(session, request_id, s);
        }
    }

    pub(super) fn generation(&self, id: ConsumerId) -> Generation {
        self.world.consumers.get(&id).map_or(Generation::default(), |entry| entry.config.generation)
    }

    fn redeliver<S: Shared>(
        &mut self,
        (session, request_id, pid): (SessionId, RequestId, i32),
        id: ConsumerId,
        messages: Vec<(Seq, KeyId)>,
        s: &mut Step<S>,
    ) {
        // Open transactions count: each call, and each transaction, may make any number of requests.
        let pending: usize = self.sessions.iter().map(|s| s.pending.to_redeliver(id)).sum();
        let more = pending + messages.len();
        if self.at(id, s).is_some_and(|(consumer, _)| !consumer.has_room_to_redeliver(more)) {
            s.shared.answer(session, request_id, &Answer::TooMany, false);
            return;
        }
        let Some(stream) = self.world.stream_of(id) else {
            s.shared.answer(session, request_id, &Answer::empty(), false);
            return;
        };
        let messages: Vec<(Seq, KeyId)> =
            messages.into_iter().filter(|&(seq, key)| stream.seen(id, seq, key)).collect();
        let (ack_row_id, generation) = (AckRowId(self.ids.take(1)), self.generation(id));
        let deliveries = messages
            .iter()
            .map(|&(seq, _)| Delivery { ack_id: AckId::default(), seq, deliveries: 0 })
            .collect();
        if !messages.is_empty() {
            let operation = Operation::Redeliver { messages, ack_row_id };
            self.sessions.of(session, pid).pending.add(request_id, id, operation);
        }
        let answer = Answer::Deliveries { ack_row_id, generation, deliveries };
        if !s.shared.answer(session, request_id, &answer, false) {
            self.abort(session, request_id, s);
        }
    }
}
