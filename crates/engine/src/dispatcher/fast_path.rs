//! What sessions may finish without asking: the deliveries they received last, which the dispatcher has granted in
//! advance. That is revoked before anything is done to such a delivery: before its deadline is noticed, another session
//! names it, or its consumer changes. Saves one of two exchanges for each batch that is received and acked.

use super::exchange::FastPathAck;
use super::interface::{Clock, Shared};
use super::{Dispatcher, Step};
use crate::ids::{AckId, AckRowId, ConsumerId, RequestId, SessionId};
use crate::pending::{Consumers, Operation};
use crate::settings::Micros;

/// The deliveries that a session received last.
#[derive(Debug)]
pub(super) struct FastPathGrant {
    /// The request that they were the answer to.
    pub request_id: RequestId,
    pub consumer: ConsumerId,
    pub first_ack_id: AckId,
    pub count: usize,
    /// The id that a row of sequin.acks will have, if it finishes some of them.
    pub ack_row_id: AckRowId,
    /// They end then, if they aren't extended.
    pub due: Micros,
}

impl FastPathGrant {
    /// The first ack_id behind its own.
    pub fn end(&self) -> AckId {
        self.first_ack_id.at(self.count)
    }
}

impl Dispatcher {
    /// Adds what a session has finished without asking to the operations of its transaction. As long as that is open
    /// the deliveries are pinned. Mostly it has committed by now, and the operation takes effect next.
    pub(super) fn apply_fast_path_ack(
        &mut self,
        session: SessionId,
        ack: &FastPathAck,
        has_committed: bool,
    ) {
        let grant = self.sessions.take_grant(session, |g| g.request_id == ack.received_by);
        let Some(FastPathGrant { consumer: id, first_ack_id, ack_row_id, .. }) = grant else {
            return;
        };
        let ack_ids = ack.positions.iter().map(|&position| first_ack_id.at(position));
        let ack_ids = match self.world.consumer(id) {
            Some(_) if has_committed => ack_ids.collect(),
            Some(consumer) => ack_ids.filter(|&ack_id| consumer.pin(ack_id).is_some()).collect(),
            None => Vec::new(),
        };
        if let Some(session) = self.sessions.get_mut(session) {
            let finish = Operation::Finish { ack_ids, ack_row_id, rejected: false };
            session.pending.add(ack.request_id, id, finish);
        }
    }

    pub(super) fn revoke_all<S: Shared>(&mut self, s: &mut Step<S>) {
        self.revoke(self.sessions.with_grants(), s);
    }

    /// Before deadlines are noticed.
    pub(super) fn revoke_due<S: Shared>(&mut self, s: &mut Step<S>) {
        let Clock { mono: now, .. } = s.clock;
        self.revoke(self.sessions.with_grants_due(now), s);
    }

    /// Before something is done to these deliveries.
    pub(super) fn revoke_of<S: Shared>(&mut self, ack_ids: &[AckId], s: &mut Step<S>) {
        if let (Some(&lowest), Some(&highest)) = (ack_ids.iter().min(), ack_ids.iter().max()) {
            self.revoke(self.sessions.with_grants_in(lowest, highest), s);
        }
    }

    fn revoke<S: Shared>(&mut self, sessions: Vec<SessionId>, s: &mut Step<S>) {
        for session in sessions {
            let Some(request_id) = self.sessions.grant_request(session) else { continue };
            match s.shared.revoke(session, request_id) {
                Some(ack) => self.apply_fast_path_ack(session, &ack, false),
                None => drop(self.sessions.take_grant(session, |_| true)),
            }
            self.sessions.forget_if_idle(session);
        }
    }
}
