//! A session's entry in shared memory: its mailbox to the dispatcher, the outcome of its transaction, and the
//! deliveries that it may finish without asking. The caller of each function holds the entry's lock.
//!
//! The mailbox goes idle -> posted -> taken -> answered -> idle. The outcome of the transaction lies beside it. The
//! dispatcher always collects it before the next request, so no request of a later transaction overtakes it.

mod fast_path;
mod outcome;

use super::dispatcher::{Answer, Asked, FastPathAck, Outcome, Promise, Request};
use super::wire::MAX_BYTES;
use crate::ids::{RequestId, SessionId};
use fast_path::FastPath;
pub use outcome::Reigns;
use outcome::XactOutcome;

/// The state of the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)] // It lies in shared memory.
pub enum Mailbox {
    Idle = 0,
    Posted,
    Taken,
    Answered,
}

/// What one session has. What the dispatcher has not collected yet stays after the session's end, until the next
/// session takes the entry over. Zeroed memory is an entry that has had no owner yet.
#[repr(C)]
#[derive(Debug)]
pub struct Entry {
    pid: i32,
    /// The OID of its database.
    database: u32,
    mailbox: Mailbox,
    /// The promise that the transaction will rely on once the request that was taken is answered.
    promise: Promise,
    /// The last request ever posted in this entry. No id is used again by a later owner.
    last_request: RequestId,
    outcome: XactOutcome,
    fast_path: FastPath,
    len: usize,
    bytes: [u8; MAX_BYTES],
}

impl Entry {
    /// The same as zeroed memory.
    #[cfg(test)]
    pub fn zeroed() -> Entry {
        Entry {
            pid: 0,
            database: 0,
            mailbox: Mailbox::Idle,
            promise: Promise::None,
            last_request: RequestId::NONE,
            outcome: XactOutcome::default(),
            fast_path: FastPath::default(),
            len: 0,
            bytes: [0; MAX_BYTES],
        }
    }

    /// True if the dispatcher has not collected the outcome of a transaction yet.
    #[cfg(test)]
    pub fn has_outcome(&self) -> bool {
        !self.outcome.is_told()
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// True if its owner, or its last owner, is in this database.
    pub fn is_of(&self, database: u32) -> bool {
        self.database == database
    }

    pub fn mailbox(&self) -> Mailbox {
        self.mailbox
    }

    pub fn last_request(&self) -> RequestId {
        self.last_request
    }

    // ---- the owner's side ----

    /// Takes the entry over for a process. What the last owner left must be collected first. If that was in the same
    /// database, its dispatcher does so before it collects anything of the new owner. If it was in another database
    /// whose dispatcher is alive, this returns that database and takes nothing over. If that dispatcher isn't alive,
    /// nothing needs to be collected: the next one reads from the tables what was committed.
    pub fn own(&mut self, pid: i32, here: u32, is_alive: impl FnOnce(u32) -> bool) -> Option<u32> {
        if self.database != here {
            if !self.outcome.is_told() && is_alive(self.database) {
                return Some(self.database);
            }
            self.outcome = XactOutcome::default();
            self.fast_path.clear();
        }
        self.pid = pid;
        self.database = here;
        self.outcome.end();
        self.fast_path.revoke();
        self.mailbox = Mailbox::Idle;
        None
    }

    /// Leaves the entry to the next process.
    pub fn disown(&mut self) {
        self.fast_path.revoke();
        self.pid = 0;
        self.mailbox = Mailbox::Idle;
    }

    /// Posts a request; `None` if it is too long.
    pub fn post(&mut self, request: &Request) -> Option<RequestId> {
        self.len = request.encode(&mut self.bytes)?;
        self.last_request = self.last_request.next();
        self.mailbox = Mailbox::Posted;
        Some(self.last_request)
    }

    /// Finishes deliveries of the answer to a request, by their positions in it, without asking. `None` if the
    /// dispatcher has to be asked. That is so after a change of the configuration: the dispatcher revokes its grants
    /// before it applies the change, and may not have done so yet. It is also so after a rollback that has not been
    /// collected: the dispatcher would take that for a rollback of what is finished here.
    pub fn finish(
        &mut self,
        received_by: RequestId,
        positions: &[usize],
        has_config_changed: bool,
    ) -> Option<RequestId> {
        if !self.fast_path.is_of(received_by)
            || has_config_changed
            || self.outcome.has_untold_rollback()
        {
            return None;
        }
        self.last_request = self.last_request.next();
        let reign = self.fast_path.finish(self.last_request, positions);
        self.outcome.promise(Promise::Journalled, self.last_request, reign);
        Some(self.last_request)
    }

    /// The answer, once it is there.
    pub fn take_answer(&mut self) -> Option<Answer> {
        if self.mailbox != Mailbox::Answered {
            return None;
        }
        self.mailbox = Mailbox::Idle;
        Answer::decode(self.content())
    }

    /// The transaction, or a part of it, rolled back all that it asked for from this request on. True if the dispatcher
    /// must learn of that.
    pub fn abort(&mut self, from: RequestId) -> bool {
        self.fast_path.revoke_from(from);
        self.outcome.void_from(from);
        let is_unseen = self.mailbox == Mailbox::Posted;
        self.mailbox = Mailbox::Idle;
        if is_unseen && from == self.last_request {
            return false;
        }
        self.outcome.tell_aborted(from);
        true
    }

    /// The transaction is about to commit. False if it relies on a dispatcher that is gone.
    pub fn may_commit(&mut self, reigns: Reigns) -> bool {
        self.outcome.may_commit(reigns)
    }

    /// The transaction committed. Its acks, if any, can no longer be refused.
    pub fn commit(&mut self) {
        self.mailbox = Mailbox::Idle;
        self.outcome.tell_committed(self.last_request);
    }

    /// The transaction has committed or rolled back. True if a dispatcher may be waiting for that.
    pub fn end(&mut self) -> bool {
        self.outcome.end()
    }

    // ---- the dispatcher's side ----

    /// Takes what the entry has for the dispatcher of a database: the outcome of the session's transaction, and its
    /// request.
    pub fn collect(&mut self, session: SessionId, database: u32) -> (Outcome, Option<Asked>) {
        let mut outcome = Outcome { session, ..Outcome::default() };
        if !self.is_of(database) {
            return (outcome, None);
        }
        outcome.pid = self.pid;
        outcome.fast_path_ack = self.fast_path.take_finished();
        (outcome.aborted_from, outcome.committed_upto) = self.outcome.take();
        if self.mailbox != Mailbox::Posted {
            return (outcome, None);
        }
        self.mailbox = Mailbox::Taken;
        let request = Request::decode(self.content());
        self.promise = request.as_ref().map_or(Promise::None, Request::promise);
        let (request_id, pid) = (self.last_request, self.pid);
        (outcome, request.map(|request| Asked { session, request_id, pid, request }))
    }

    /// Answers a request; `reign` is that of the dispatcher. `fast_path` grants the right to finish the deliveries
    /// without asking. False if the request was withdrawn meanwhile, or if there is no room for the answer: then the
    /// session gets [`Answer::TooLong`]. In both cases the dispatcher has to undo what it has done for the request.
    pub fn answer(
        &mut self,
        request: RequestId,
        answer: &Answer,
        fast_path: bool,
        reign: u64,
    ) -> bool {
        if self.last_request != request || self.mailbox != Mailbox::Taken {
            return false;
        }
        self.mailbox = Mailbox::Answered;
        let Some(len) = answer.encode(&mut self.bytes) else {
            self.len = Answer::TooLong.encode(&mut self.bytes).unwrap_or(0);
            return false;
        };
        self.len = len;
        if fast_path {
            self.fast_path.grant(request, reign);
        }
        // Together with the answer, under one lock: a dispatcher that starts after this has another reign, and one that
        // has started before it answers the request itself.
        self.outcome.promise(self.promise, request, reign);
        true
    }

    /// Revokes the right to finish deliveries of the answer to this request without asking. Returns what the session
    /// has finished of them by that right.
    pub fn revoke(&mut self, received_by: RequestId) -> Option<FastPathAck> {
        self.fast_path.revoke_of(received_by)
    }

    /// Leaves a request to the next dispatcher.
    pub fn ask_again(&mut self, request: RequestId) {
        if self.last_request == request && self.mailbox == Mailbox::Taken {
            self.mailbox = Mailbox::Posted;
        }
    }

    /// A dispatcher of a database starts, and knows nothing of its predecessor's promises. A request that the
    /// predecessor had taken is posted again, and the session may finish nothing without asking any more.
    pub fn reset(&mut self, database: u32) {
        if !self.is_of(database) {
            return;
        }
        if self.mailbox == Mailbox::Taken {
            self.mailbox = Mailbox::Posted;
        }
        self.fast_path.clear();
    }

    /// True while a transaction commits that relies on a dispatcher of this database: it has passed
    /// [`Entry::may_commit`], and its commit is not visible to others yet.
    pub fn is_committing(&self, database: u32) -> bool {
        self.is_of(database) && self.outcome.is_committing()
    }

    /// The request, or the answer.
    fn content(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
