//! The fast path of acks: a session may finish the deliveries that it received last without asking the dispatcher. The
//! dispatcher grants this in advance, and revokes it before it does anything that contradicts it. That saves one of two
//! exchanges for each batch that is received and acked.
//!
//! The grant is in the session's entry and guarded by the entry's lock. If the session takes the lock first, the
//! dispatcher learns what the session has finished; if the dispatcher does, the session has to ask.

use crate::dispatcher::FastPathAck;
use crate::ids::RequestId;
use crate::wire::MAX_BATCH;

#[repr(C)]
#[derive(Debug)]
pub(super) struct FastPath {
    /// The request whose answer had the deliveries, while the grant holds.
    request: RequestId,
    /// The reign of the dispatcher that has granted it.
    reign: u64,
    /// The request id under which the session has finished some deliveries, if the dispatcher hasn't collected that
    /// yet.
    finished_as: RequestId,
    /// The request whose answer had those.
    finished_of: RequestId,
    /// Which of them: a bit for each delivery of the answer.
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

    /// Forgets the grant, and what has been finished.
    pub(super) fn clear(&mut self) {
        self.request = RequestId::NONE;
        self.finished_as = RequestId::NONE;
    }

    /// Revokes the grant: from now on the session has to ask.
    pub(super) fn revoke(&mut self) {
        self.request = RequestId::NONE;
    }

    /// Revokes the grant for the deliveries of one answer, and returns what has been finished of them. The entry may
    /// belong to the next session by now, perhaps one of another database.
    pub(super) fn revoke_of(&mut self, request: RequestId) -> Option<FastPathAck> {
        if self.request == request {
            self.request = RequestId::NONE;
        }
        if self.finished_of == request { self.take_finished() } else { None }
    }

    /// Revokes the grant if it is for the answer to this request or a later one.
    pub(super) fn revoke_from(&mut self, request: RequestId) {
        if self.request >= request {
            self.request = RequestId::NONE;
        }
    }

    /// True if the grant holds and is for the deliveries of this answer.
    pub(super) fn is_of(&self, request: RequestId) -> bool {
        !request.is_none() && self.request == request
    }

    /// Notes that deliveries are finished, and uses up the grant: there is one id for a row of sequin.acks. Returns the
    /// reign of the grant.
    pub(super) fn finish(&mut self, request_id: RequestId, positions: &[usize]) -> u64 {
        self.finished_of = std::mem::take(&mut self.request);
        self.finished_as = request_id;
        self.positions = [0; _];
        for position in positions {
            self.positions[position / WORD] |= 1 << (position % WORD);
        }
        self.reign
    }

    /// Takes what has been finished since the last call.
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
