//! The outcome of a session's transaction, and the promises that its commit relies on. It is in the session's entry,
//! under the entry's lock.
//!
//! When a dispatcher answers an ack, reject, nack or redeliver, it promises that this will take effect at commit. The
//! promise holds under the **reign** of that dispatcher, a number that no other has. A dispatcher of another reign
//! knows nothing of it.

use crate::dispatcher::Promise;
use crate::ids::RequestId;

/// What the dispatcher has to learn of a transaction, and the promises that it relies on.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct XactOutcome {
    /// Requests from this id on were rolled back, if any.
    aborted_from: RequestId,
    /// Requests up to this id were committed, as far as they weren't rolled back, if any.
    committed_upto: RequestId,
    /// The first promise to the open transaction that a row of sequin.acks records, so that the next dispatcher learns
    /// of it.
    journalled: Promised,
    /// The first promise that only this dispatcher knows of: that of a nack.
    unwritten: Promised,
    /// The transaction is past the point where its commit could be refused.
    committing: bool,
}

/// The reigns of a database's dispatchers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reigns {
    /// That of the dispatcher that runs; 0 while there is none.
    pub current: u64,
    /// The same, or that of the last dispatcher if none runs.
    pub last: u64,
}

/// A promise that the transaction relies on.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct Promised {
    /// The request that it answers, if there is a promise.
    request_id: RequestId,
    reign: u64,
}

impl Promised {
    /// Only the first promise is kept: a rollback that voids it voids all later ones.
    fn give(&mut self, request_id: RequestId, reign: u64) {
        if self.request_id.is_none() {
            *self = Promised { request_id, reign };
        }
    }

    fn void_from(&mut self, from: RequestId) {
        if self.request_id >= from {
            *self = Promised::default();
        }
    }

    fn is_given(self) -> bool {
        !self.request_id.is_none()
    }

    fn is_of_another(self, reign: u64) -> bool {
        self.is_given() && self.reign != reign
    }
}

impl XactOutcome {
    /// True if the dispatcher has collected all of it.
    pub fn is_told(&self) -> bool {
        self.aborted_from.is_none() && self.committed_upto.is_none()
    }

    pub fn has_untold_rollback(&self) -> bool {
        !self.aborted_from.is_none()
    }

    /// Request `request_id` has been answered under this reign, and the transaction relies on it.
    pub fn promise(&mut self, promise: Promise, request_id: RequestId, reign: u64) {
        match promise {
            Promise::None => {}
            Promise::Journalled => self.journalled.give(request_id, reign),
            Promise::Unwritten => self.unwritten.give(request_id, reign),
        }
    }

    /// The transaction, or a part of it, rolled back all that it asked for from request `from` on: it doesn't rely on
    /// those promises any more.
    pub fn void_from(&mut self, from: RequestId) {
        self.journalled.void_from(from);
        self.unwritten.void_from(from);
    }

    /// Leaves that rollback for the dispatcher to collect.
    pub fn tell_aborted(&mut self, from: RequestId) {
        self.aborted_from = match self.aborted_from {
            RequestId::NONE => from,
            earlier => earlier.min(from),
        };
    }

    pub fn tell_committed(&mut self, upto: RequestId) {
        self.committed_upto = upto;
    }

    /// Takes what the dispatcher has to learn: from which request on they were rolled back, and up to which they were
    /// committed.
    pub fn take(&mut self) -> (Option<RequestId>, Option<RequestId>) {
        let from = std::mem::take(&mut self.aborted_from);
        let upto = std::mem::take(&mut self.committed_upto);
        ((!from.is_none()).then_some(from), (!upto.is_none()).then_some(upto))
    }

    /// The transaction is about to commit. False if it relies on a dispatcher that is gone. A promise that a row of
    /// sequin.acks records holds as long as no other dispatcher has started since: the next one will read the row.
    /// After that it doesn't, since the new dispatcher may have written a checkpoint that lacks the row. A promise
    /// without a row holds only while its dispatcher runs.
    pub fn may_commit(&mut self, reigns: Reigns) -> bool {
        let is_void = self.journalled.is_of_another(reigns.last)
            || self.unwritten.is_of_another(reigns.current);
        self.committing = !is_void && (self.journalled.is_given() || self.unwritten.is_given());
        !is_void
    }

    /// True while the commit can't be refused any more, and isn't over yet.
    pub fn is_committing(&self) -> bool {
        self.committing
    }

    /// The transaction has committed or rolled back. True if a dispatcher may be waiting for that.
    pub fn end(&mut self) -> bool {
        self.journalled = Promised::default();
        self.unwritten = Promised::default();
        std::mem::take(&mut self.committing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(reign: u64) -> Reigns {
        Reigns { current: reign, last: reign }
    }

    fn after(reign: u64) -> Reigns {
        Reigns { current: 0, last: reign }
    }

    #[test]
    fn who_relies_on_a_dispatcher_that_is_gone_must_not_commit() {
        for promise in [Promise::Journalled, Promise::Unwritten] {
            let mut outcome = XactOutcome::default();
            outcome.promise(promise, RequestId(5), 1);
            outcome.promise(promise, RequestId(6), 2);
            assert!(!outcome.may_commit(under(2)), "{promise:?}");
            assert!(!outcome.is_committing());
            assert!(!outcome.end());
            assert!(outcome.may_commit(under(2)), "the next transaction relies on nothing");
        }
    }

    #[test]
    fn while_there_is_no_dispatcher_rows_count_and_nacks_do_not() {
        let mut outcome = XactOutcome::default();
        outcome.promise(Promise::Journalled, RequestId(5), 1);
        assert!(outcome.may_commit(after(1)));
        assert!(outcome.is_committing());
        outcome.promise(Promise::Unwritten, RequestId(6), 1);
        assert!(!outcome.may_commit(after(1)));
        assert!(outcome.may_commit(under(1)));
    }

    #[test]
    fn what_was_rolled_back_is_relied_on_no_more() {
        let mut outcome = XactOutcome::default();
        outcome.promise(Promise::Journalled, RequestId(5), 1);
        outcome.promise(Promise::Unwritten, RequestId(7), 1);
        outcome.void_from(RequestId(6));
        assert!(outcome.may_commit(under(1)) && outcome.is_committing());
        assert!(!outcome.may_commit(under(2)));
        outcome.void_from(RequestId(5));
        assert!(outcome.may_commit(under(2)) && !outcome.is_committing());
    }

    #[test]
    fn a_dispatcher_is_told_once() {
        let mut outcome = XactOutcome::default();
        outcome.tell_aborted(RequestId(7));
        outcome.tell_aborted(RequestId(9));
        outcome.tell_committed(RequestId(10));
        assert!(!outcome.is_told() && outcome.has_untold_rollback());
        assert_eq!(outcome.take(), (Some(RequestId(7)), Some(RequestId(10))));
        assert!(outcome.is_told());
        assert_eq!(outcome.take(), (None, None));
    }
}
