//! A process's slot: the streams its transaction has published to, and its mailbox to the dispatcher.
//!
//! The owner writes it, the dispatcher of its database reads it; a lock of the slot's own orders the two, and
//! nobody else contends for it. The mailbox goes idle -> posted -> taken -> answered -> idle. What became of
//! the transaction is left beside it, and is always collected before the next request is, so nothing of a
//! later transaction can overtake it.

use super::bounds::{self, Publishing};
use super::database::{self, Database};
use super::fate::{Fate, Promise};
use super::lease::{Finished, Lease};
use super::lwlock::Lock;
use super::mailbox::{Answer, MAX_WORDS, Request};
use super::shmem::{Segment, segment};
use super::snapshot::{Snapshot, Xid};
use crate::engine::key::Seq;
use crate::engine::settings::Micros;
use crate::engine::tail::Publisher;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const IDLE: u32 = 0;
const POSTED: u32 = 1;
const TAKEN: u32 = 2;
const ANSWERED: u32 = 3;

#[repr(C)]
pub struct Slot {
    /// Where the mailbox is. Changed under the lock only; read without it to see whether to look.
    state: AtomicU32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// A database whose workers must stay away while this process drops, renames or copies it.
    suspends: AtomicU32,
    /// The number of the last request ever posted in this slot: never reused, whoever owns it.
    number: AtomicU64,
    inner: Lock<Inner>,
}

/// All of it is one session's. What its dispatcher has not collected yet outlives it, until the next one comes.
#[repr(C)]
struct Inner {
    pid: i32,
    database: u32,
    publishing: Publishing,
    fate: Fate,
    lease: Lease,
    /// What the transaction will rely on once the request that was taken is answered.
    makes_row: bool,
    is_nack: bool,
    words: usize,
    mail: [i64; MAX_WORDS],
}

/// What the dispatcher collects from a slot.
#[derive(Debug, Default)]
pub struct Mail {
    pub number: u64,
    /// The process that has the slot now; 0 if none does, or one in another database.
    pub pid: i32,
    /// Comes first: what it has finished on its own word.
    pub finished: Option<Finished>,
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

impl Slot {
    pub(super) fn initialise(&self, tranche: i32) {
        self.inner.initialise(tranche);
    }

    /// This process's slot, and its index.
    pub fn mine() -> Option<(usize, &'static Slot)> {
        let index = super::process_number()?;
        Some((index, segment()?.slots().get(index)?))
    }

    // ---- the owner's side ----

    /// Takes the slot over for this process, once what the last one left in it has been collected: by a dispatcher of the
    /// same database before it collects anything of this one; by another's now, or by nobody.
    pub(super) fn own(&self) -> Result<()> {
        /// A dispatcher that is alive collects within milliseconds.
        const PATIENCE: Duration = Duration::from_secs(30);
        let until = Instant::now() + PATIENCE;
        while let Some(left_for) = self.try_own() {
            if Instant::now() > until {
                return Err(Error::Uncollected);
            }
            left_for.dispatcher.wake();
            super::call::sleep(Duration::from_millis(1));
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
            if alive.is_some() && !inner.fate.is_told() {
                return alive;
            }
            inner.fate = Fate::default();
            inner.lease.clear();
        }
        inner.pid = pid;
        inner.database = here;
        inner.fate.end();
        inner.lease.revoke();
        let chunks = inner.publishing.end();
        self.suspends.store(0, Ordering::Release);
        self.latch.store(latch, Ordering::Release);
        self.state.store(IDLE, Ordering::Release);
        drop(inner);
        chunks.give_back();
        None
    }

    /// Leaves the slot to the next process.
    pub(super) fn disown(&self) {
        let mut inner = self.inner.lock();
        inner.lease.revoke();
        inner.pid = 0;
        self.latch.store(std::ptr::null_mut(), Ordering::Release);
        self.state.store(IDLE, Ordering::Release);
        self.suspends.store(0, Ordering::Release);
    }

    /// Posts a request and returns its number.
    pub(super) fn post(&self, request: &Request) -> u64 {
        let words = request.encode();
        let mut inner = self.inner.lock();
        let len = words.len().min(MAX_WORDS);
        inner.mail[..len].copy_from_slice(&words[..len]);
        inner.words = len;
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.store(POSTED, Ordering::Release);
        number
    }

    /// Finishes deliveries of the answer to `request`, by their places in it, on the dispatcher's word: returns the number
    /// of that. `None` if the dispatcher has to be asked.
    pub(super) fn finish(&self, request: u64, places: &[usize], here: &Database) -> Option<u64> {
        let mut inner = self.inner.lock();
        // The dispatcher takes its word back before it takes note of a change; here it hasn't yet. And a rollback that
        // it doesn't know of would be taken for one of what is finished here, too.
        if !inner.lease.is_of(request)
            || here.has_config_changed()
            || inner.fate.has_untold_rollback()
        {
            return None;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let reign = inner.lease.finish(number, places);
        inner.fate.promise(Promise::Journalled, number, reign);
        Some(number)
    }

    /// The number of the last request.
    pub(super) fn last_request(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// The answer, once it is there.
    pub(super) fn take_answer(&self) -> Option<Answer> {
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
    pub(super) fn abort(&self, from: u64) -> bool {
        let mut inner = self.inner.lock();
        inner.lease.revoke_from(from);
        inner.fate.void_from(from);
        let last = self.number.load(Ordering::Relaxed);
        let unseen = self.state.load(Ordering::Relaxed) == POSTED;
        self.state.store(IDLE, Ordering::Release);
        if unseen && from == last {
            return false;
        }
        inner.fate.tell_aborted(from);
        true
    }

    /// The transaction committed. Its acks, if any, can no longer be refused.
    pub(super) fn commit(&self) {
        let mut inner = self.inner.lock();
        self.state.store(IDLE, Ordering::Release);
        let upto = self.number.load(Ordering::Relaxed);
        inner.fate.tell_committed(upto);
    }

    /// The transaction is about to commit. False if the dispatcher whose word it relies on is gone.
    pub(super) fn may_commit(&self) -> bool {
        let mut inner = self.inner.lock();
        // Read under the lock: a dispatcher that ends its reign looks at all slots after that.
        let reign = Database::here().map_or(0, Database::reign);
        inner.fate.may_commit(reign)
    }

    /// The transaction is over, one way or the other. True if a dispatcher may be waiting for that.
    pub(super) fn end(&self) -> bool {
        self.inner.lock().fate.end()
    }

    /// Notes the lowest seq that this transaction can take in a stream.
    pub(super) fn publish(&self, stream: pg_sys::Oid, bound: Seq, xid: Xid) -> Result<()> {
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
            publishing.since = super::now();
        }
        publishing.add(stream.to_u32(), bound, chunk);
        Ok(())
    }

    /// The publishing transaction is over, and its commit is visible.
    pub(super) fn end_publishing(&self) {
        let chunks = self.inner.lock().publishing.end();
        chunks.give_back();
    }

    /// Keeps the workers of a database away until the transaction ends; `None`: no longer.
    pub(super) fn suspend(&self, database: Option<pg_sys::Oid>) {
        self.suspends.store(database.map_or(0, |oid| oid.to_u32()), Ordering::SeqCst);
    }

    // ---- the dispatcher's side ----

    /// Collects what the slot has for the dispatcher of `database`.
    pub fn collect(&self, database: pg_sys::Oid) -> Mail {
        let mut inner = self.inner.lock();
        let number = self.number.load(Ordering::Relaxed);
        let mut mail = Mail { number, ..Mail::default() };
        if inner.database != database.to_u32() {
            return mail;
        }
        mail.pid = inner.pid;
        mail.finished = inner.lease.take_finished();
        (mail.aborted_from, mail.committed_upto) = inner.fate.take();
        if self.state.load(Ordering::Relaxed) == POSTED {
            self.state.store(TAKEN, Ordering::Release);
            mail.request = Request::decode(&inner.mail[..inner.words]);
            let promise = mail.request.as_ref().map_or(Promise::None, Request::promise);
            inner.makes_row = promise == Promise::Journalled;
            inner.is_nack = promise == Promise::Unwritten;
        }
        mail
    }

    /// Answers request `number`; false if it has been withdrawn meanwhile.
    pub fn answer(&self, number: u64, answer: &Answer) -> bool {
        self.answer_and(number, answer, |_| {})
    }

    /// The same, with deliveries that the session may finish on its own word.
    pub fn grant(&self, number: u64, answer: &Answer) -> bool {
        self.answer_and(number, answer, |lease| lease.grant(number, database::own_reign()))
    }

    fn answer_and(&self, number: u64, answer: &Answer, and: impl FnOnce(&mut Lease)) -> bool {
        let words = answer.encode();
        {
            let mut inner = self.inner.lock();
            let is_current = self.number.load(Ordering::Relaxed) == number;
            if !is_current || self.state.load(Ordering::Relaxed) != TAKEN {
                return false;
            }
            let len = words.len().min(MAX_WORDS);
            inner.mail[..len].copy_from_slice(&words[..len]);
            inner.words = len;
            and(&mut inner.lease);
            // In one with the answer: a dispatcher that starts after this has another reign, one that starts before it
            // answers itself.
            let promise = match (inner.makes_row, inner.is_nack) {
                (true, _) => Promise::Journalled,
                (_, true) => Promise::Unwritten,
                _ => Promise::None,
            };
            inner.fate.promise(promise, number, database::own_reign());
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
    pub fn revoke(&self, request: u64) -> Option<Finished> {
        self.inner.lock().lease.revoke_of(request)
    }

    /// Leaves request `number` to the next dispatcher.
    pub fn ask_again(&self, number: u64) {
        let _inner = self.inner.lock();
        let is_current = self.number.load(Ordering::Relaxed) == number;
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
        inner.lease.clear();
    }

    /// True while a transaction commits that relies on the word of a dispatcher of this database: it has been found that
    /// it may, and others don't see it yet.
    pub fn is_committing(&self, database: pg_sys::Oid) -> bool {
        let inner = self.inner.lock();
        inner.database == database.to_u32() && inner.fate.is_committing()
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

    /// Those whose transaction is open, for who sees what `snapshot` shows. A transaction's commit is visible before
    /// its slot says so; without this, some of its messages would be found, and earlier ones be taken for holes.
    pub fn open_in(&self, snapshot: &Snapshot) -> Vec<Publisher> {
        let open = self.0.iter().filter(|&&(_, xid)| snapshot.is_running(xid));
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
    let bound_of = |(index, slot): (usize, &Slot)| {
        let inner = slot.inner.lock();
        let bound = inner.publishing.bound_on(oid)?;
        let Publishing { transaction, xid, .. } = inner.publishing;
        Some((Publisher { slot: u32::try_from(index).ok()?, transaction, bound }, xid))
    };
    Publishers(database.publishing().filter_map(bound_of).collect())
}

/// The same transactions, for people.
pub fn open_publishers(database: &Database, stream: pg_sys::Oid) -> Vec<OpenPublisher> {
    let slots = segment().map_or(&[][..], Segment::slots);
    let to_open = |publisher: Publisher| {
        let inner = slots.get(publisher.slot as usize)?.inner.lock();
        Some(OpenPublisher { pid: inner.pid, since: inner.publishing.since })
    };
    publishers(database, stream).all().into_iter().filter_map(to_open).collect()
}

/// True while some process keeps the workers of a database away.
pub fn is_suspended(database: pg_sys::Oid) -> bool {
    let slots = segment().map_or(&[][..], Segment::slots);
    slots.iter().any(|slot| slot.is_suspending(database))
}
