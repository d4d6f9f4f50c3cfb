//! Deliveries that a session may finish without asking: those that it received last. The dispatcher has granted that in
//! advance, and revokes it before it does anything that would make it wrong. Saves one of two
//! exchanges for each batch that is received and acked.
//!
//! It lies in the session's entry and is guarded by its lock, so either the session is first and the dispatcher learns what
//! it has finished, or the dispatcher is, and the session has to ask.

use crate::dispatcher::FastPathAck;
use crate::ids::RequestId;
use crate::wire::MAX_BATCH;

#[repr(C)]
#[derive(Debug)]
pub(super) struct FastPath {
    /// The request that the deliveries were the answer to, while they are there.
    request: RequestId,
    /// Of the dispatcher that has granted it.
    reign: u64,
    /// The number under which the session has finished some, and which the dispatcher hasn't collected yet.
    finished_as: RequestId,
    /// The request that those were the answer to.
    finished_of: RequestId,
    /// Which: a bit for each delivery of the answer.
    positions: [u64; MAX_BATCH.div_ceil(WORD)],
}

const WORD: usize = u64::BITS as usize;

impl Default for FastPath {
    fn default() -> FastPath {
        FastPath {
            request: RequestId::NONE,
            reign: 0,
            finished_as: RequestId::NONE,
            finished_of: RequestId::NONE,
            positions: [0; _],
        }
    }
}

impl FastPath {
    pub(super) fn grant(&mut self, request: RequestId, reign: u64) {
        self.request = request;
        self.reign = reign;
    }

    /// Nothing is left of it, nor of what has been finished.
    pub(super) fn clear(&mut self) {
        self.request = RequestId::NONE;
        self.finished_as = RequestId::NONE;
    }

    /// From now on the session has to ask.
    pub(super) fn revoke(&mut self) {
        self.request = RequestId::NONE;
    }

    /// The same for the deliveries of one answer; and what has been finished of them. The entry may be the next session's
    /// by now, perhaps one of another database.
    pub(super) fn revoke_of(&mut self, request: RequestId) -> Option<FastPathAck> {
        if self.request == request {
            self.request = RequestId::NONE;
        }
        if self.finished_of == request { self.take_finished() } else { None }
    }

    /// The same, if the deliveries were the answer to this request or a later one.
    pub(super) fn revoke_from(&mut self, request: RequestId) {
        if self.request >= request {
            self.request = RequestId::NONE;
        }
    }

    /// True for the deliveries of this answer, until the grant is revoked.
    pub(super) fn is_of(&self, request: RequestId) -> bool {
        !request.is_none() && self.request == request
    }

    /// Once for each answer: there is one id for a row of sequin.acks. Returns the reign of the grant.
    pub(super) fn finish(&mut self, request_id: RequestId, positions: &[usize]) -> u64 {
        self.finished_of = std::mem::take(&mut self.request);
        self.finished_as = request_id;
        self.positions = [0; _];
        for position in positions {
            self.positions[position / WORD] |= 1 << (position % WORD);
        }
        self.reign
    }

    /// What has been finished since it was last asked.
    pub(super) fn take_finished(&mut self) -> Option<FastPathAck> {
        let request_id = std::mem::take(&mut self.finished_as);
        if request_id.is_none() {
            return None;
        }
        let mut positions = Vec::new();
        for (n, mut bits) in self.positions.into_iter().enumerate() {
            while bits != 0 {
                positions.push(n * WORD + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        Some(FastPathAck { request_id, received_by: self.finished_of, positions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_finished_once_and_collected_once() {
        let mut path = FastPath::default();
        assert!(!path.is_of(RequestId::NONE));
        path.grant(RequestId(7), 1);
        assert!(path.is_of(RequestId(7)) && !path.is_of(RequestId(6)));
        path.finish(RequestId(8), &[0, 63, 64, MAX_BATCH - 1]);
        assert!(!path.is_of(RequestId(7)));
        let finished = FastPathAck {
            request_id: RequestId(8),
            received_by: RequestId(7),
            positions: vec![0, 63, 64, MAX_BATCH - 1],
        };
        assert_eq!(path.take_finished(), Some(finished));
        assert_eq!(path.take_finished(), None);
    }

    #[test]
    fn a_rollback_revokes_what_was_received_in_it() {
        let mut path = FastPath::default();
        path.grant(RequestId(7), 1);
        path.revoke_from(RequestId(8));
        assert!(path.is_of(RequestId(7)));
        path.revoke_from(RequestId(7));
        assert!(!path.is_of(RequestId(7)));
    }

    #[test]
    fn nothing_is_taken_back_from_the_entry_s_next_session() {
        let mut path = FastPath::default();
        path.grant(RequestId(9), 1);
        assert_eq!(path.revoke_of(RequestId(7)), None);
        assert!(path.is_of(RequestId(9)));
        path.finish(RequestId(10), &[3]);
        assert_eq!(path.revoke_of(RequestId(7)), None);
        let finished = FastPathAck {
            request_id: RequestId(10),
            received_by: RequestId(9),
            positions: vec![3],
        };
        assert_eq!(path.revoke_of(RequestId(9)), Some(finished));
    }
}
