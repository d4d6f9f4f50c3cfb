//! Deliveries that a session may finish on its own word: those that it received last. The dispatcher has said in advance
//! what it would answer, and takes that back before it does anything that would make it untrue. Saves one of two
//! exchanges for each batch that is received and acked.
//!
//! It lies in the session's slot and is guarded by its lock, so either the session is first and the dispatcher learns what
//! it has finished, or the dispatcher is, and the session has to ask.

use super::mailbox::MAX_BATCH;

#[repr(C)]
pub(super) struct Lease {
    /// The request that the deliveries were the answer to; 0: there are none any more.
    request: u64,
    /// The number under which the session has finished some, and which the dispatcher hasn't collected; 0: none.
    finished_as: u64,
    /// Which: a bit for each delivery of the answer.
    places: [u64; MAX_BATCH.div_ceil(WORD)],
}

const WORD: usize = u64::BITS as usize;

/// What a session has finished on its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Counts among its requests.
    pub number: u64,
    /// Places in the answer to the request for messages.
    pub places: Vec<usize>,
}

impl Lease {
    pub(super) fn grant(&mut self, request: u64) {
        self.request = request;
    }

    /// From now on the session has to ask.
    pub(super) fn revoke(&mut self) {
        self.request = 0;
    }

    /// The same, if the deliveries were the answer to this request or a later one.
    pub(super) fn revoke_from(&mut self, request: u64) {
        if self.request >= request {
            self.request = 0;
        }
    }

    /// True for the deliveries of this answer, while the dispatcher's word stands.
    pub(super) fn is_of(&self, request: u64) -> bool {
        request != 0 && self.request == request
    }

    /// Once for each answer: there is one id for a row of sequin.acks.
    pub(super) fn finish(&mut self, number: u64, places: &[usize]) {
        self.request = 0;
        self.finished_as = number;
        self.places = [0; _];
        for place in places {
            self.places[place / WORD] |= 1 << (place % WORD);
        }
    }

    /// What has been finished since it was last asked.
    pub(super) fn take_finished(&mut self) -> Option<Finished> {
        let number = std::mem::take(&mut self.finished_as);
        let is_finished = |&place: &usize| self.places[place / WORD] & (1 << (place % WORD)) != 0;
        (number != 0)
            .then(|| Finished { number, places: (0..MAX_BATCH).filter(is_finished).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_finished_once_and_collected_once() {
        let mut lease = Lease { request: 0, finished_as: 0, places: [0; _] };
        assert!(!lease.is_of(0));
        lease.grant(7);
        assert!(lease.is_of(7) && !lease.is_of(6));
        lease.finish(8, &[0, 63, 64, MAX_BATCH - 1]);
        assert!(!lease.is_of(7));
        let finished = Finished { number: 8, places: vec![0, 63, 64, MAX_BATCH - 1] };
        assert_eq!(lease.take_finished(), Some(finished));
        assert_eq!(lease.take_finished(), None);
    }

    #[test]
    fn a_rollback_revokes_what_was_received_in_it() {
        let mut lease = Lease { request: 0, finished_as: 0, places: [0; _] };
        lease.grant(7);
        lease.revoke_from(8);
        assert!(lease.is_of(7));
        lease.revoke_from(7);
        assert!(!lease.is_of(7));
    }
}
