//! A process's entry: the streams its transaction has published to, and its mailbox to the dispatcher.
//!
//! The owner writes it, the dispatcher of its database reads it. The entry has a lock of its own, for which only these
//! two contend. The mailbox goes idle -> posted -> taken -> answered -> idle. The outcome of the transaction lies
//! beside it. The dispatcher always collects it before the next request, so no request of a later transaction overtakes
//! it.

use super::bounds::{self, Publishing, Xid};
use super::database::{self, Database};
use super::lwlock::Lock;
use super::shmem::{Segment, segment};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use sequin_engine::dispatcher::{Answer, Asked, FastPathAck, Outcome, Publisher, Request};
use sequin_engine::entry::{Entry, Mailbox};
use sequin_engine::ids::{RequestId, SessionId};
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[repr(C)]
pub struct SessionEntry {
    /// Whether the mailbox holds an answer. Changed under the lock only; read without it, to see whether taking the
    /// lock is worth it.
    is_answered: AtomicBool,
    latch: AtomicPtr<pg_sys::Latch>,
    /// A database whose workers must stay away while this process drops, renames or copies it.
    suspends: AtomicU32,
    inner: Lock<Inner>,
}

/// What one session has.
#[repr(C)]
struct Inner {
    publishing: Publishing,
    entry: Entry,
}

/// A limit, since there is one for each process that the server can have.
const MAX_SIZE: usize = 6 << 10;
const _: () = assert!(size_of::<SessionEntry>() <= MAX_SIZE);

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

    /// Takes the entry over for this process. If its last owner was in another database, this waits until that
    /// database's dispatcher has collected what the owner left; see [`Entry::own`].
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

    /// Takes the entry over, or returns the database whose dispatcher has to collect first.
    fn try_own(&self) -> Option<&'static Database> {
        // SAFETY: plain values of this process; its latch lies in shared memory.
        let (pid, latch, here) =
            unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch, pg_sys::MyDatabaseId.to_u32()) };
        let alive = |database: u32| {
            Database::find(pg_sys::Oid::from(database)).filter(|d| d.dispatcher.pid() != 0)
        };
        let mut inner = self.inner.lock();
        if let Some(left_for) = inner.entry.own(pid, here, |database| alive(database).is_some()) {
            return alive(left_for);
        }
        let chunks = inner.publishing.end();
        self.suspends.store(0, Ordering::Release);
        self.latch.store(latch, Ordering::Release);
        self.is_answered.store(false, Ordering::Release);
        drop(inner);
        chunks.release();
        None
    }

    /// Does something to the entry, under its lock.
    fn with<R>(&self, f: impl FnOnce(&mut Entry) -> R) -> R {
        let mut inner = self.inner.lock();
        let result = f(&mut inner.entry);
        let is_answered = inner.entry.mailbox() == Mailbox::Answered;
        self.is_answered.store(is_answered, Ordering::Release);
        result
    }

    /// Leaves the entry to the next process.
    pub(in crate::pg) fn disown(&self) {
        self.latch.store(std::ptr::null_mut(), Ordering::Release);
        self.suspends.store(0, Ordering::Release);
        self.with(Entry::disown);
    }

    /// Posts a request and returns its id; `None` if it is too long.
    pub(in crate::pg) fn post(&self, request: &Request) -> Option<RequestId> {
        self.with(|entry| entry.post(request))
    }

    /// Finishes deliveries of the answer to a request by the fast path, without asking the dispatcher. Returns the
    /// request id that this counts as; `None` if the dispatcher has to be asked.
    pub(in crate::pg) fn finish(
        &self,
        received_by: RequestId,
        positions: &[usize],
        here: &Database,
    ) -> Option<RequestId> {
        self.with(|entry| entry.finish(received_by, positions, here.has_config_changed()))
    }

    /// The last request.
    pub(in crate::pg) fn last_request(&self) -> RequestId {
        self.with(|entry| entry.last_request())
    }

    /// The answer, once it is there.
    pub(in crate::pg) fn take_answer(&self) -> Option<Answer> {
        if !self.is_answered.load(Ordering::Acquire) {
            return None;
        }
        self.with(Entry::take_answer)
    }

    /// The transaction, or a part of it, rolled back all that it asked for from this request on. True if the dispatcher
    /// must know.
    pub(in crate::pg) fn abort(&self, from: RequestId) -> bool {
        self.with(|entry| entry.abort(from))
    }

    /// The transaction committed. Its acks, if any, can no longer be refused.
    pub(in crate::pg) fn commit(&self) {
        self.with(Entry::commit);
    }

    /// The transaction is about to commit. False if it relies on a dispatcher that is gone.
    pub(in crate::pg) fn may_commit(&self) -> bool {
        // The reigns are read under the lock: a dispatcher that ends its reign looks at all entries afterwards.
        self.with(|entry| {
            entry.may_commit(Database::here().map(Database::reigns).unwrap_or_default())
        })
    }

    /// The transaction is over, one way or the other. True if a dispatcher may be waiting for that.
    pub(in crate::pg) fn end(&self) -> bool {
        self.with(Entry::end)
    }

    /// Notes the lowest seq that this transaction can take in a stream.
    pub(in crate::pg) fn publish(&self, stream: pg_sys::Oid, bound: Seq, xid: Xid) -> Result<()> {
        // Only this process adds to it, so it stays as full as it is.
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
        chunks.release();
    }

    /// Keeps the workers of a database away until the transaction ends; with `None` no longer.
    pub(in crate::pg) fn suspend(&self, database: Option<pg_sys::Oid>) {
        self.suspends.store(database.map_or(0, |oid| oid.to_u32()), Ordering::SeqCst);
    }

    // ---- the dispatcher's side ----

    /// Takes the outcome and the request that the entry has for the dispatcher of `database`.
    pub fn collect(&self, session: SessionId, database: pg_sys::Oid) -> (Outcome, Option<Asked>) {
        self.with(|entry| entry.collect(session, database.to_u32()))
    }

    /// Answers a request. `fast_path` grants the right to finish the deliveries without asking. False if the request
    /// was withdrawn meanwhile, or if the answer is too long: then the session gets [`Answer::TooLong`].
    pub fn answer(&self, request: RequestId, answer: &Answer, fast_path: bool) -> bool {
        let reign = database::own_reign();
        let is_taken = self.with(|entry| entry.answer(request, answer, fast_path, reign));
        let latch = self.latch.load(Ordering::Acquire);
        if self.is_answered.load(Ordering::Acquire) && !latch.is_null() {
            // SAFETY: latches of processes stay allocated; one that has changed hands is woken for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
        is_taken
    }

    /// Revokes the right to finish deliveries of the answer to this request without asking. Returns what the session
    /// has finished of them by that right.
    pub fn revoke(&self, received_by: RequestId) -> Option<FastPathAck> {
        self.with(|entry| entry.revoke(received_by))
    }

    /// Leaves a request to the next dispatcher.
    pub fn ask_again(&self, request: RequestId) {
        self.with(|entry| entry.ask_again(request));
    }

    /// Called for each entry when a dispatcher starts, which knows nothing of what its predecessor promised; see
    /// [`Entry::reset`].
    pub fn reset(&self, database: pg_sys::Oid) {
        self.with(|entry| entry.reset(database.to_u32()));
    }

    /// True while a transaction commits that relies on a dispatcher of this database.
    pub fn is_committing(&self, database: pg_sys::Oid) -> bool {
        self.with(|entry| entry.is_committing(database.to_u32()))
    }

    /// True while the workers of `database` must stay away from it.
    pub fn is_suspending(&self, database: pg_sys::Oid) -> bool {
        self.suspends.load(Ordering::SeqCst) == database.to_u32()
    }
}

/// The transactions that have published to a stream and not cleared their bound yet: so what they may still take from
/// it.
#[derive(Debug, Default)]
pub struct Publishers(Vec<(Publisher, Xid)>);

impl Publishers {
    pub fn all(&self) -> Vec<Publisher> {
        self.0.iter().map(|&(publisher, _)| publisher).collect()
    }

    /// Those whose transaction is still running by the snapshot that is read with. A commit becomes visible before the
    /// transaction's entry is cleared. If such a publisher counted as open, the look would find some of its messages
    /// and take seqs below them for holes.
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
    Publishers(publishing_to(database, stream, |publisher, inner| {
        (publisher, inner.publishing.xid)
    }))
}

/// The same transactions, for `sequin.stream_stats`.
pub fn open_publishers(database: &Database, stream: pg_sys::Oid) -> Vec<OpenPublisher> {
    publishing_to(database, stream, |_, inner| OpenPublisher {
        pid: inner.entry.pid(),
        since: inner.publishing.since,
    })
}

/// The lowest seq that an open transaction may publish with, and the process whose that is.
pub fn lowest_bound(database: &Database, stream: pg_sys::Oid) -> Option<(Seq, i32)> {
    let bound = |publisher: Publisher, inner: &Inner| (publisher.bound, inner.entry.pid());
    publishing_to(database, stream, bound).into_iter().min()
}

/// Since when the oldest open transaction of a database publishes, if there is one that has published.
pub(super) fn oldest_publisher(database: &Database) -> Option<Micros> {
    let since = |(_, entry): (usize, &SessionEntry)| {
        let inner = entry.inner.lock();
        let is_open = inner.entry.is_of(database.oid().to_u32()) && !inner.publishing.is_empty();
        is_open.then_some(inner.publishing.since)
    };
    database.publishing().filter_map(since).min()
}

/// Calls `of` for each entry whose transaction has published to a stream. An entry that is flagged in the database's
/// map may belong to another database by now, whose tables may have the same OIDs: hence the check.
fn publishing_to<T>(
    database: &Database,
    stream: pg_sys::Oid,
    of: impl Fn(Publisher, &Inner) -> T,
) -> Vec<T> {
    let of_entry = |(index, entry): (usize, &SessionEntry)| {
        let inner = entry.inner.lock();
        if !inner.entry.is_of(database.oid().to_u32()) {
            return None;
        }
        let bound = inner.publishing.bound_on(stream.to_u32())?;
        let transaction = inner.publishing.transaction;
        Some(of(Publisher { session: u32::try_from(index).ok()?, transaction, bound }, &inner))
    };
    database.publishing().filter_map(of_entry).collect()
}

/// True while some process keeps the workers of a database away.
pub fn is_suspended(database: pg_sys::Oid) -> bool {
    let entries = segment().map_or(&[][..], Segment::sessions);
    entries.iter().any(|entry| entry.is_suspending(database))
}
