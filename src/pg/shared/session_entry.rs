//! A process's entry: the streams its transaction has published to, and its mailbox to the dispatcher.
//!
//! The owner writes it, the dispatcher of its database reads it; a lock of the entry's own orders the two, and
//! nobody else contends for it. The mailbox goes idle -> posted -> taken -> answered -> idle. What became of
//! the transaction is left beside it, and is always collected before the next request is, so nothing of a
//! later transaction can overtake it.

use super::bounds::{self, Publishing, Xid};
use super::database::{self, Database};
use super::fast_path::{FastPath, FastPathAck};
use super::lwlock::Lock;
use super::mailbox::{Answer, MAX_WORDS, Request};
use super::shmem::{Segment, segment};
use super::xact_outcome::{Promise, XactOutcome};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use sequin_engine::tail::Publisher;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IDLE: u32 = 0;
const POSTED: u32 = 1;
const TAKEN: u32 = 2;
const ANSWERED: u32 = 3;

#[repr(C)]
pub struct SessionEntry {
    /// Where the mailbox is. Changed under the lock only; read without it to see whether to look.
    state: AtomicU32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// A database whose workers must stay away while this process drops, renames or copies it.
    suspends: AtomicU32,
    /// The number of the last request ever posted in this entry: never reused, whoever owns it.
    last_request_id: AtomicU64,
    inner: Lock<Inner>,
}

/// All of it is one session's. What its dispatcher has not collected yet outlives it, until the next one comes.
#[repr(C)]
struct Inner {
    pid: i32,
    database: u32,
    publishing: Publishing,
    outcome: XactOutcome,
    fast_path: FastPath,
    /// What the transaction will rely on once the request that was taken is answered.
    makes_row: bool,
    is_nack: bool,
    words: usize,
    mail: [i64; MAX_WORDS],
}

/// What the dispatcher collects from an entry.
#[derive(Debug, Default)]
pub struct Mail {
    pub request_id: u64,
    /// The process that has the entry now; 0 if none does, or one in another database.
    pub pid: i32,
    /// Comes first: what it has finished on its own word.
    pub finished: Option<FastPathAck>,
    /// Comes next: requests from this number on were rolled back.
    pub aborted_from: Option<u64>,
    /// Comes next: requests up to this number were committed.
    pub committed_upto: Option<u64>,
    /// Comes last.
    pub request: Option<Request>,
}

/// One transaction that has published, as `sequin.stream_stats` shows it.
#[derive(Debug, Clone, Copy)]
pub struct OpenPublisher {
    pub pid: i32,
    pub since: Micros,
}

impl SessionEntry {
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        self.inner.initialise(tranche);
    }

    /// This process's entry, and its index.
    pub fn mine() -> Option<(usize, &'static SessionEntry)> {
        let index = crate::pg::process::number()?;
        Some((index, segment()?.sessions().get(index)?))
    }

    // ---- the owner's side ----

    /// Takes the entry over for this process, once what the last one left in it has been collected: by a dispatcher of the
    /// same database before it collects anything of this one; by another's now, or by nobody.
    pub(in crate::pg) fn own(&self) -> Result<()> {
        /// A dispatcher that is alive collects within milliseconds.
        const PATIENCE: Duration = Duration::from_secs(30);
        let until = Instant::now() + PATIENCE;
        while let Some(left_for) = self.try_own() {
            if Instant::now() > until {
                return Err(Error::Uncollected);
            }
            left_for.dispatcher.wake();
            crate::pg::process::sleep(Duration::from_millis(1));
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }

    /// The same, or the database whose dispatcher has to collect first. One that isn't there has forgotten what it is
    /// about: the next one learns from the tables what was committed.
    fn try_own(&self) -> Option<&'static Database> {
        // SAFETY: plain values of this process; its latch lies in shared memory.
        let (pid, latch, here) =
            unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch, pg_sys::MyDatabaseId.to_u32()) };
        let mut inner = self.inner.lock();
        if inner.database != here {
            let left_for = Database::find(pg_sys::Oid::from(inner.database));
            let alive = left_for.filter(|database| database.dispatcher.pid() != 0);
            if alive.is_some() && !inner.outcome.is_told() {
                return alive;
            }
            inner.outcome = XactOutcome::default();
            inner.fast_path.clear();
        }
        inner.pid = pid;
        inner.database = here;
        inner.outcome.end();
        inner.fast_path.revoke();
        let chunks = inner.publishing.end();
        self.suspends.store(0, Ordering::Release);
        self.latch.store(latch, Ordering::Release);
        self.state.store(IDLE, Ordering::Release);
        drop(inner);
        chunks.give_back();
        None
    }

    /// Leaves the entry to the next process.
    pub(in crate::pg) fn disown(&self) {
        let mut inner = self.inner.lock();
        inner.fast_path.revoke();
        inner.pid = 0;
        self.latch.store(std::ptr::null_mut(), Ordering::Release);
        self.state.store(IDLE, Ordering::Release);
        self.suspends.store(0, Ordering::Release);
    }

    /// Posts a request and returns its number.
    pub(in crate::pg) fn post(&self, request: &Request) -> u64 {
        let words = request.encode();
        let mut inner = self.inner.lock();
        let len = words.len().min(MAX_WORDS);
        inner.mail[..len].copy_from_slice(&words[..len]);
        inner.words = len;
        let request_id = self.last_request_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.store(POSTED, Ordering::Release);
        request_id
    }

    /// Finishes deliveries of the answer to `request`, by their places in it, on the dispatcher's word: returns the number
    /// of that. `None` if the dispatcher has to be asked.
    pub(in crate::pg) fn finish(
        &self,
        request: u64,
        positions: &[usize],
        here: &Database,
    ) -> Option<u64> {
        let mut inner = self.inner.lock();
        // The dispatcher takes its word back before it takes note of a change; here it hasn't yet. And a rollback that
        // it doesn't know of would be taken for one of what is finished here, too.
        if !inner.fast_path.is_of(request)
            || here.has_config_changed()
            || inner.outcome.has_untold_rollback()
        {
            return None;
        }
        let request_id = self.last_request_id.fetch_add(1, Ordering::Relaxed) + 1;
        let reign = inner.fast_path.finish(request_id, positions);
        inner.outcome.promise(Promise::Journalled, request_id, reign);
        Some(request_id)
    }

    /// The number of the last request.
    pub(in crate::pg) fn last_request(&self) -> u64 {
        self.last_request_id.load(Ordering::Relaxed)
    }

    /// The answer, once it is there.
    pub(in crate::pg) fn take_answer(&self) -> Option<Answer> {
        if self.state.load(Ordering::Acquire) != ANSWERED {
            return None;
        }
        let inner = self.inner.lock();
        self.state.store(IDLE, Ordering::Release);
        let words = inner.mail[..inner.words].to_vec();
        drop(inner);
        Answer::decode(&words)
    }

    /// The transaction, or a part of it, rolled back all that it asked for from request `from` on. True if
    /// the dispatcher must know.
    pub(in crate::pg) fn abort(&self, from: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.fast_path.revoke_from(from);
        inner.outcome.void_from(from);
        let last = self.last_request_id.load(Ordering::Relaxed);
        let unseen = self.state.load(Ordering::Relaxed) == POSTED;
        self.state.store(IDLE, Ordering::Release);
        if unseen && from == last {
            return false;
        }
        inner.outcome.tell_aborted(from);
        true
    }

    /// The transaction committed. Its acks, if any, can no longer be refused.
    pub(in crate::pg) fn commit(&self) {
        let mut inner = self.inner.lock();
        self.state.store(IDLE, Ordering::Release);
        let upto = self.last_request_id.load(Ordering::Relaxed);
        inner.outcome.tell_committed(upto);
    }

    /// The transaction is about to commit. False if the dispatcher whose word it relies on is gone.
    pub(in crate::pg) fn may_commit(&self) -> bool {
        let mut inner = self.inner.lock();
        // Read under the lock: a dispatcher that ends its reign looks at all entries after that.
        let reign = Database::here().map_or(0, Database::reign);
        inner.outcome.may_commit(reign)
    }

    /// The transaction is over, one way or the other. True if a dispatcher may be waiting for that.
    pub(in crate::pg) fn end(&self) -> bool {
        self.inner.lock().outcome.end()
    }

    /// Notes the lowest seq that this transaction can take in a stream.
    pub(in crate::pg) fn publish(&self, stream: pg_sys::Oid, bound: Seq, xid: Xid) -> Result<()> {
        // Nobody else adds to it.
        let is_full = self.inner.lock().publishing.is_full();
        let chunk = match is_full {
            true => Some(bounds::take().ok_or(Error::TooManyPublished)?),
            false => None,
        };
        let mut inner = self.inner.lock();
        let publishing = &mut inner.publishing;
        if publishing.is_empty() {
            publishing.transaction += 1;
            publishing.xid = xid;
            publishing.since = crate::pg::now();
        }
        publishing.add(stream.to_u32(), bound, chunk);
        Ok(())
    }

    /// The publishing transaction is over, and its commit is visible.
    pub(in crate::pg) fn end_publishing(&self) {
        let chunks = self.inner.lock().publishing.end();
        chunks.give_back();
    }

    /// Keeps the workers of a database away until the transaction ends; `None`: no longer.
    pub(in crate::pg) fn suspend(&self, database: Option<pg_sys::Oid>) {
        self.suspends.store(database.map_or(0, |oid| oid.to_u32()), Ordering::SeqCst);
    }

    // ---- the dispatcher's side ----

    /// Collects what the entry has for the dispatcher of `database`.
    pub fn collect(&self, database: pg_sys::Oid) -> Mail {
        let mut inner = self.inner.lock();
        let request_id = self.last_request_id.load(Ordering::Relaxed);
        let mut mail = Mail { request_id, ..Mail::default() };
        if inner.database != database.to_u32() {
            return mail;
        }
        mail.pid = inner.pid;
        mail.finished = inner.fast_path.take_finished();
        (mail.aborted_from, mail.committed_upto) = inner.outcome.take();
        if self.state.load(Ordering::Relaxed) == POSTED {
            self.state.store(TAKEN, Ordering::Release);
            mail.request = Request::decode(&inner.mail[..inner.words]);
            let promise = mail.request.as_ref().map_or(Promise::None, Request::promise);
            inner.makes_row = promise == Promise::Journalled;
            inner.is_nack = promise == Promise::Unwritten;
        }
        mail
    }

    /// Answers request `request_id`; false if it has been withdrawn meanwhile.
    pub fn answer(&self, request_id: u64, answer: &Answer) -> bool {
        self.answer_and(request_id, answer, |_| {})
    }

    /// The same, with deliveries that the session may finish on its own word.
    pub fn grant(&self, request_id: u64, answer: &Answer) -> bool {
        self.answer_and(request_id, answer, |lease| lease.grant(request_id, database::own_reign()))
    }

    fn answer_and(
        &self,
        request_id: u64,
        answer: &Answer,
        and: impl FnOnce(&mut FastPath),
    ) -> bool {
        let words = answer.encode();
        {
            let mut inner = self.inner.lock();
            let is_current = self.last_request_id.load(Ordering::Relaxed) == request_id;
            if !is_current || self.state.load(Ordering::Relaxed) != TAKEN {
                return false;
            }
            let len = words.len().min(MAX_WORDS);
            inner.mail[..len].copy_from_slice(&words[..len]);
            inner.words = len;
            and(&mut inner.fast_path);
            // In one with the answer: a dispatcher that starts after this has another reign, one that starts before it
            // answers itself.
            let promise = match (inner.makes_row, inner.is_nack) {
                (true, _) => Promise::Journalled,
                (_, true) => Promise::Unwritten,
                _ => Promise::None,
            };
            inner.outcome.promise(promise, request_id, database::own_reign());
            self.state.store(ANSWERED, Ordering::Release);
        }
        let latch = self.latch.load(Ordering::Acquire);
        if !latch.is_null() {
            // SAFETY: latches of processes stay allocated; one that has changed hands is woken for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
        true
    }

    /// The session has to ask from now on for deliveries of the answer to `request`; what it has finished of them before
    /// on its own word.
    pub fn revoke(&self, request: u64) -> Option<FastPathAck> {
        self.inner.lock().fast_path.revoke_of(request)
    }

    /// Leaves request `request_id` to the next dispatcher.
    pub fn ask_again(&self, request_id: u64) {
        let _inner = self.inner.lock();
        let is_current = self.last_request_id.load(Ordering::Relaxed) == request_id;
        if is_current && self.state.load(Ordering::Relaxed) == TAKEN {
            self.state.store(POSTED, Ordering::Release);
        }
    }

    /// A dispatcher starts, and knows nothing of what its predecessor promised: requests that it had taken
    /// are to be asked again, and sessions have no word of it any more.
    pub fn reset(&self, database: pg_sys::Oid) {
        let mut inner = self.inner.lock();
        if inner.database != database.to_u32() {
            return;
        }
        if self.state.load(Ordering::Relaxed) == TAKEN {
            self.state.store(POSTED, Ordering::Release);
        }
        inner.fast_path.clear();
    }

    /// True while a transaction commits that relies on the word of a dispatcher of this database: it has been found that
    /// it may, and others don't see it yet.
    pub fn is_committing(&self, database: pg_sys::Oid) -> bool {
        let inner = self.inner.lock();
        inner.database == database.to_u32() && inner.outcome.is_committing()
    }

    /// True while the workers of `database` must stay away from it.
    pub fn is_suspending(&self, database: pg_sys::Oid) -> bool {
        self.suspends.load(Ordering::SeqCst) == database.to_u32()
    }
}

/// The transactions that have published to a stream, and whose end isn't known here yet: what they may still take
/// from it.
#[derive(Debug, Default)]
pub struct Publishers(Vec<(Publisher, Xid)>);

impl Publishers {
    pub fn all(&self) -> Vec<Publisher> {
        self.0.iter().map(|&(publisher, _)| publisher).collect()
    }

    /// Those whose transaction is running to who reads by a snapshot. A transaction's commit is visible before its entry
    /// says so; without this, some of its messages would be found, and earlier ones be taken for holes.
    pub fn open(&self, is_running: impl Fn(Xid) -> bool) -> Vec<Publisher> {
        let open = self.0.iter().filter(|&&(_, xid)| is_running(xid));
        open.map(|&(publisher, _)| publisher).collect()
    }

    /// The lowest seq that one of them can take, if there are any.
    pub fn bound(&self) -> Option<Seq> {
        self.0.iter().map(|(publisher, _)| publisher.bound).min()
    }
}

/// The publishers to a stream.
pub fn publishers(database: &Database, stream: pg_sys::Oid) -> Publishers {
    let oid = stream.to_u32();
    let bound_of = |(index, entry): (usize, &SessionEntry)| {
        let inner = entry.inner.lock();
        let bound = inner.publishing.bound_on(oid)?;
        let Publishing { transaction, xid, .. } = inner.publishing;
        Some((Publisher { session: u32::try_from(index).ok()?, transaction, bound }, xid))
    };
    Publishers(database.publishing().filter_map(bound_of).collect())
}

/// The same transactions, for people.
pub fn open_publishers(database: &Database, stream: pg_sys::Oid) -> Vec<OpenPublisher> {
    let entries = segment().map_or(&[][..], Segment::sessions);
    let to_open = |publisher: Publisher| {
        let inner = entries.get(publisher.session as usize)?.inner.lock();
        Some(OpenPublisher { pid: inner.pid, since: inner.publishing.since })
    };
    publishers(database, stream).all().into_iter().filter_map(to_open).collect()
}

/// True while some process keeps the workers of a database away.
pub fn is_suspended(database: pg_sys::Oid) -> bool {
    let entries = segment().map_or(&[][..], Segment::sessions);
    entries.iter().any(|entry| entry.is_suspending(database))
}
