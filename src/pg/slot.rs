//! A process's slot: the streams its transaction has published to, and its mailbox to the dispatcher.
//!
//! The owner writes it, the dispatcher of its database reads it; a lock of the slot's own orders the two, and
//! nobody else contends for it. The mailbox goes idle -> posted -> taken -> answered -> idle. What became of
//! the transaction is left beside it, and is always collected before the next request is, so nothing of a
//! later transaction can overtake it.

use super::database::Database;
use super::lease::{Finished, Lease};
use super::lwlock::Lock;
use super::mailbox::{Answer, MAX_WORDS, Request};
use super::shmem::{Segment, segment};
use super::snapshot::{Snapshot, Xid};
use crate::engine::key::Seq;
use crate::engine::settings::Micros;
use crate::engine::tail::Publisher;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Streams one transaction can publish to before the slot says just "any stream". That is still right: all
/// gaps in the database then wait for this transaction.
const PUBLISHED: usize = 8;

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

#[repr(C)]
struct Inner {
    pid: i32,
    database: u32,
    publishing: Publishing,
    fate: Fate,
    lease: Lease,
    /// The answer to the request that was taken is a word to rely on.
    is_binding: bool,
    words: usize,
    mail: [i64; MAX_WORDS],
}

#[repr(C)]
struct Publishing {
    /// Counts the slot's transactions, so that two of them are told apart.
    transaction: u64,
    xid: Xid,
    since: Micros,
    streams: usize,
    bounds: [(u32, Seq); PUBLISHED],
}

/// What has become of the transaction, and what must not happen to it.
#[repr(C)]
struct Fate {
    /// Whose dispatcher has to be told: that of the process that had the slot when it was written.
    database: u32,
    /// Requests from this number on were rolled back; 0: none.
    aborted_from: u64,
    /// Requests up to this number were committed, as far as they weren't rolled back; 0: none.
    committed_upto: u64,
    /// The transaction relies on the word of a dispatcher: it has acked, rejected, nacked or redelivered.
    finishes: bool,
    /// It is past the point where it could be refused.
    committing: bool,
    /// That dispatcher is gone: the transaction must not commit.
    doomed: bool,
}

impl Fate {
    /// The dispatcher has been told.
    fn is_empty(&self) -> bool {
        self.aborted_from == 0 && self.committed_upto == 0
    }
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

    /// Takes the slot over for this process.
    pub(super) fn own(&self) {
        // SAFETY: plain values of this process; its latch lies in shared memory.
        let (pid, latch, database) =
            unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch, pg_sys::MyDatabaseId) };
        self.await_collection(database);
        let mut inner = self.inner.lock();
        inner.pid = pid;
        inner.database = database.to_u32();
        self.latch.store(latch, Ordering::Release);
        self.state.store(IDLE, Ordering::Release);
    }

    /// Has the dispatcher of another database collect what the last owner left for it. One that is alive does
    /// so within milliseconds; one that isn't has forgotten what it is about.
    fn await_collection(&self, database: pg_sys::Oid) {
        const PATIENCE: Duration = Duration::from_secs(30);
        let until = Instant::now() + PATIENCE;
        loop {
            let (left_for, is_empty) = {
                let fate = &self.inner.lock().fate;
                (pg_sys::Oid::from(fate.database), fate.is_empty())
            };
            if is_empty || left_for == database {
                return;
            }
            match Database::find(left_for).map(|database| &database.dispatcher) {
                Some(alive) if alive.pid() != 0 && Instant::now() < until => alive.wake(),
                _ => return,
            }
            super::call::sleep(Duration::from_millis(1));
            pgrx::check_for_interrupts!();
        }
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
        let is_elsewhere = !inner.fate.is_empty() && inner.fate.database != inner.database;
        if !inner.lease.is_of(request)
            || here.has_config_changed()
            || inner.fate.aborted_from != 0
            || is_elsewhere
        {
            return None;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        inner.lease.finish(number, places);
        inner.fate.finishes = true;
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
        let last = self.number.load(Ordering::Relaxed);
        let unseen = self.state.load(Ordering::Relaxed) == POSTED;
        self.state.store(IDLE, Ordering::Release);
        if unseen && from == last {
            return false;
        }
        inner.fate.database = inner.database;
        inner.fate.aborted_from = match inner.fate.aborted_from {
            0 => from,
            earlier => earlier.min(from),
        };
        true
    }

    /// The transaction committed. Its acks, if any, can no longer be refused.
    pub(super) fn commit(&self) {
        let mut inner = self.inner.lock();
        self.state.store(IDLE, Ordering::Release);
        inner.fate.database = inner.database;
        inner.fate.committed_upto = self.number.load(Ordering::Relaxed);
    }

    /// The transaction is about to commit. False if the dispatcher that it got its acks from is gone.
    pub(super) fn may_commit(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.fate.committing = inner.fate.finishes && !inner.fate.doomed;
        !inner.fate.doomed
    }

    /// The transaction is over, one way or the other. True if a dispatcher may be waiting for that.
    pub(super) fn end(&self) -> bool {
        let mut inner = self.inner.lock();
        let was_committing = inner.fate.committing;
        inner.fate.finishes = false;
        inner.fate.committing = false;
        inner.fate.doomed = false;
        was_committing
    }

    /// Notes the lowest seq that this transaction can take in a stream.
    pub(super) fn publish(&self, stream: pg_sys::Oid, bound: Seq, xid: Xid) {
        let mut inner = self.inner.lock();
        let publishing = &mut inner.publishing;
        if publishing.streams == 0 {
            publishing.transaction += 1;
            publishing.xid = xid;
            publishing.since = super::now();
        }
        match publishing.bounds.get_mut(publishing.streams) {
            Some(free) => *free = (stream.to_u32(), bound),
            None => publishing.bounds[PUBLISHED - 1] = (0, 1),
        }
        publishing.streams += 1;
    }

    /// The publishing transaction is over, and its commit is visible.
    pub(super) fn end_publishing(&self) {
        self.inner.lock().publishing.streams = 0;
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
        let is_here = |of: u32| of == database.to_u32();
        if is_here(inner.database) || !inner.fate.is_empty() && is_here(inner.fate.database) {
            mail.finished = inner.lease.take_finished();
        }
        if is_here(inner.fate.database) {
            let from = std::mem::take(&mut inner.fate.aborted_from);
            mail.aborted_from = (from != 0).then_some(from);
            let upto = std::mem::take(&mut inner.fate.committed_upto);
            mail.committed_upto = (upto != 0).then_some(upto);
        }
        if is_here(inner.database) {
            mail.pid = inner.pid;
            if self.state.load(Ordering::Relaxed) == POSTED {
                self.state.store(TAKEN, Ordering::Release);
                mail.request = Request::decode(&inner.mail[..inner.words]);
                inner.is_binding =
                    mail.request.as_ref().is_some_and(Request::takes_effect_at_commit);
            }
        }
        mail
    }

    /// Answers request `number`; false if it has been withdrawn meanwhile.
    pub fn answer(&self, number: u64, answer: &Answer) -> bool {
        self.answer_and(number, answer, |_| {})
    }

    /// The same, with deliveries that the session may finish on its own word.
    pub fn grant(&self, number: u64, answer: &Answer) -> bool {
        self.answer_and(number, answer, |lease| lease.grant(number))
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
            // In one with the answer: a dispatcher that starts after this dooms the transaction, one that
            // starts before it answers itself.
            inner.fate.finishes |= inner.is_binding;
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
    /// are to be asked again, and transactions that rely on its word must not commit. True if one of them is
    /// just committing: its rows have to be waited for.
    pub fn reset(&self, database: pg_sys::Oid) -> bool {
        let mut inner = self.inner.lock();
        if inner.database != database.to_u32() {
            return false;
        }
        if self.state.load(Ordering::Relaxed) == TAKEN {
            self.state.store(POSTED, Ordering::Release);
        }
        inner.lease.revoke();
        inner.lease.take_finished();
        inner.fate.doomed |= inner.fate.finishes && !inner.fate.committing;
        inner.fate.committing
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
        let Publishing { transaction, xid, streams, ref bounds, .. } = inner.publishing;
        let used = &bounds[..streams.min(PUBLISHED)];
        let bound = used.iter().filter(|&&(s, _)| s == oid || s == 0).map(|&(_, b)| b).min()?;
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
