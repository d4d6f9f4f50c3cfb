//! A database that has the extension: its dispatcher, and the signals from its sessions to it.

use super::helper::Helper;
use super::lwlock::Lock;
use super::session_entry::SessionEntry;
use super::shmem::{Segment, segment};
use super::status::Status;
use pgrx::pg_sys;
use sequin_engine::changes::Changes;
use sequin_engine::dedup::{self, Late};
use sequin_engine::entry::Reigns;
use sequin_engine::settings::Micros;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Bits in the maps of streams. Where two streams share a bit, publishing to one makes the dispatcher look at the other
/// too, and find nothing.
const STREAM_BITS: usize = 1024;

type StreamMap = [AtomicU64; STREAM_BITS / u64::BITS as usize];

/// One entry. Free while `oid` is 0.
#[repr(C)]
pub struct Database {
    oid: AtomicU32,
    /// The launcher should keep a dispatcher running here.
    enabled: AtomicBool,
    /// Some session waits for messages: the end of a transaction may free one for it, and must wake the dispatcher.
    is_waited_for: AtomicBool,
    /// Streams, consumers, or the extension itself have changed.
    config_changed: AtomicBool,
    /// Which of them.
    changes: Lock<Changes>,
    /// The number of open transactions that have changed some, and report it when they commit.
    changing: AtomicU32,
    /// The reign of the current dispatcher, a number that no other has; 0 while there is none to rely on.
    reign: AtomicU64,
    /// The reign of the current dispatcher, or of the last one if there is none.
    last_reign: AtomicU64,
    /// Streams whose publishing transactions have ended since the dispatcher last took this map.
    published: StreamMap,
    /// Streams whose publishers wake the dispatcher when they end.
    listening: StreamMap,
    /// Transactions that have claimed dedup_ids and taken long to commit.
    late: Lock<Late>,
    /// The earliest time that a committed transaction has scheduled a message for, since the scheduler last took it.
    scheduled: AtomicI64,
    /// When the scheduler wakes up by itself.
    scheduler_wakes_at: AtomicI64,
    pub dispatcher: Status,
    pub janitor: Helper,
    pub scheduler: Helper,
}

/// The streams that transactions have published to. A stream that shares a bit with one of them seems to be among them.
pub struct Published([u64; STREAM_BITS / 64]);

impl Published {
    pub fn contains(&self, stream: pg_sys::Oid) -> bool {
        let (word, bit) = bit_of(stream);
        self.0[word] & bit != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&bits| bits == 0)
    }
}

thread_local! {
    /// The reign of this process, if it is a dispatcher.
    static OWN_REIGN: Cell<u64> = const { Cell::new(0) };
}

/// The reign of this dispatcher.
pub(in crate::pg) fn own_reign() -> u64 {
    OWN_REIGN.get()
}

fn bit_of(stream: pg_sys::Oid) -> (usize, u64) {
    // Multiplicative hashing (Knuth): neighbouring OIDs fall on different bits.
    let bit = (stream.to_u32().wrapping_mul(2_654_435_769) >> 22) as usize % STREAM_BITS;
    (bit / 64, 1 << (bit % 64))
}

/// Which of a database's two bitmaps is which, for [`Segment::bitmap`].
const REQUESTS: usize = 0;
const PUBLISHERS: usize = 1;

impl Database {
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        self.changes.initialise(tranche);
        self.late.initialise(tranche);
        self.dispatcher.initialise(tranche);
        self.janitor.initialise(tranche);
        self.scheduler.initialise(tranche);
    }

    /// The entry of a database, if it has one. No database, which is what free entries have, has none.
    pub fn find(oid: pg_sys::Oid) -> Option<&'static Database> {
        let entries = segment().filter(|_| oid != pg_sys::InvalidOid)?.databases();
        entries.iter().find(|entry| entry.oid.load(Ordering::Acquire) == oid.to_u32())
    }

    /// The entry of this process's database, if it has one.
    pub fn here() -> Option<&'static Database> {
        // SAFETY: a plain value of this process.
        Database::find(unsafe { pg_sys::MyDatabaseId })
    }

    /// The entry of a database, enabled: the launcher keeps a dispatcher running there. `None` when all entries are
    /// taken.
    pub fn find_or_add(oid: pg_sys::Oid) -> Option<&'static Database> {
        if let Some(found) = Database::find(oid).filter(|found| found.is_enabled()) {
            return Some(found);
        }
        Database::add(oid, |_| {})
    }

    /// The same, for a transaction that is going to report a change to the dispatcher: the entry is not given away
    /// before [`Self::tell_change`].
    pub(in crate::pg) fn find_or_add_for_change(oid: pg_sys::Oid) -> Option<&'static Database> {
        Database::add(oid, |entry| {
            entry.changing.fetch_add(1, Ordering::SeqCst);
        })
    }

    /// Entries are taken and enabled under the registry's lock only. So an entry that a session has just enabled for
    /// its database is not given to another one.
    fn add(oid: pg_sys::Oid, and: impl FnOnce(&Database)) -> Option<&'static Database> {
        let segment = segment()?;
        let _registry = segment.registry.lock();
        let entry = match Database::find(oid) {
            Some(found) => found,
            None => {
                let entries = segment.databases();
                let is_free = |entry: &&Database| entry.oid.load(Ordering::Relaxed) == 0;
                let entry = (entries.iter().find(is_free))
                    .or_else(|| entries.iter().find(|entry| entry.is_unused()))?;
                entry.take(oid);
                entry
            }
        };
        entry.enabled.store(true, Ordering::Release);
        and(entry);
        Some(entry)
    }

    /// True for a database without the extension, as a dispatcher has found, if no open transaction is creating it
    /// there.
    fn is_unused(&self) -> bool {
        !self.is_enabled()
            && !self.has_workers()
            && self.changing.load(Ordering::SeqCst) == 0
            && !self.has_config_changed()
            && self.publishing().next().is_none()
    }

    /// True while some worker of the database runs.
    pub fn has_workers(&self) -> bool {
        self.dispatcher.pid() != 0
            || self.helpers().iter().any(|(_, helper)| helper.status.pid() != 0)
            || super::capturers::are_running(self.oid())
    }

    /// True while its dispatcher is to find out whether the database has the extension: the entry may be free soon.
    pub fn is_asking(&self) -> bool {
        self.oid() != pg_sys::InvalidOid && !self.has_settled()
    }

    /// Whether its dispatcher has found the extension and serves sessions.
    pub fn has_settled(&self) -> bool {
        self.reigns().current != 0
    }

    fn take(&self, oid: pg_sys::Oid) {
        self.take_changes();
        self.changing.store(0, Ordering::Relaxed);
        self.is_waited_for.store(false, Ordering::Relaxed);
        self.reign.store(0, Ordering::Relaxed);
        self.last_reign.store(0, Ordering::Relaxed);
        for word in self.published.iter().chain(&self.listening) {
            word.store(0, Ordering::Relaxed);
        }
        *self.late.lock() = Late::unknown_before(crate::pg::now());
        self.dispatcher.set_error("");
        self.helpers().iter().for_each(|(_, helper)| helper.reset());
        self.scheduled.store(Micros::MAX, Ordering::Relaxed);
        self.scheduler_wakes_at.store(Micros::MAX, Ordering::Relaxed);
        self.oid.store(oid.to_u32(), Ordering::Release);
    }

    /// Frees the entry. Sessions that still refer to it see another OID, or 0.
    pub fn free(&self) {
        let Some(segment) = segment() else { return };
        let _registry = segment.registry.lock();
        self.enabled.store(false, Ordering::Relaxed);
        self.oid.store(0, Ordering::Release);
    }

    /// Begins this dispatcher's reign: from now on the promises of this dispatcher hold, and those of no other.
    pub fn begin_reign(&self) {
        let Some(segment) = segment() else { return };
        let reign = segment.reigns.fetch_add(1, Ordering::SeqCst) + 1;
        OWN_REIGN.set(reign);
        self.last_reign.store(reign, Ordering::SeqCst);
        self.reign.store(reign, Ordering::SeqCst);
    }

    /// Ends the reign. The dispatcher's promises about nacks don't hold any more; those about acks hold until another
    /// reign begins.
    pub fn end_reign(&self) {
        self.reign.store(0, Ordering::SeqCst);
    }

    /// The reigns whose promises hold.
    pub(in crate::pg) fn reigns(&self) -> Reigns {
        let current = self.reign.load(Ordering::SeqCst);
        Reigns { current, last: self.last_reign.load(Ordering::SeqCst) }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.oid.load(Ordering::Acquire))
    }

    /// Whether the launcher should run a dispatcher here.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Asks for a dispatcher, or to have none.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
    }

    /// The workers that run only while there is work for them, with their names.
    pub fn helpers(&self) -> [(&'static str, &Helper); 2] {
        [("janitor", &self.janitor), ("scheduler", &self.scheduler)]
    }

    /// A transaction has committed, visibly, that has scheduled messages, the first of them for this time.
    pub(in crate::pg) fn note_scheduled(&self, first: Micros) {
        self.scheduled.fetch_min(first, Ordering::SeqCst);
        self.scheduler.want();
        if first < self.scheduler_wakes_at.load(Ordering::SeqCst) {
            self.scheduler.status.wake();
        }
    }

    /// The earliest time that was noted since the last call.
    pub fn take_scheduled(&self) -> Micros {
        self.scheduled.swap(Micros::MAX, Ordering::SeqCst)
    }

    /// The scheduler sleeps until then. False if something was scheduled for an earlier time meanwhile.
    pub fn sleep_scheduler(&self, until: Micros) -> bool {
        self.scheduler_wakes_at.store(until, Ordering::SeqCst);
        self.scheduled.load(Ordering::SeqCst) >= until
    }

    /// A transaction that had claimed its first dedup_id at `claimed` has committed.
    pub(in crate::pg) fn note_claims(&self, claimed: Micros) {
        self.late.lock().add(claimed, crate::pg::now());
    }

    /// Which dedup_ids may be used anew: those that were claimed before this time.
    pub fn expired_before(&self, now: Micros, window: Micros) -> Micros {
        // In this order: a transaction is noted as late before it ceases to be open.
        let open = super::session_entry::oldest_publisher(self);
        dedup::expired_before(now, window, open, &self.late.lock())
    }

    /// Ends what [`Self::find_or_add_for_change`] began: `committed` is what the transaction has changed, `None` if it
    /// rolled back.
    pub(in crate::pg) fn tell_change(&self, committed: Option<&Changes>) {
        if let Some(committed) = committed {
            let mut changes = self.changes.lock();
            changes.add(committed);
            self.config_changed.store(true, Ordering::SeqCst);
            drop(changes);
            // A dispatcher that was started before this commit may have found no extension.
            self.set_enabled(true);
            self.dispatcher.wake();
        }
        self.changing.fetch_sub(1, Ordering::SeqCst);
    }

    /// True if there is a change that the dispatcher has not taken yet.
    pub fn has_config_changed(&self) -> bool {
        self.config_changed.load(Ordering::SeqCst)
    }

    /// What has changed since the last call. It is all committed, so reads that begin now see it.
    pub fn take_changes(&self) -> Changes {
        let mut changes = self.changes.lock();
        self.config_changed.store(false, Ordering::SeqCst);
        std::mem::take(&mut *changes)
    }

    /// The entry has a request for the dispatcher.
    pub fn notify_request(&self, session: usize) {
        self.mark(session);
        self.dispatcher.wake();
    }

    /// The entry's transaction has ended. This wakes the dispatcher only if some session waits for messages, which the
    /// end may free. Otherwise the dispatcher collects the end together with the next request of any session. That
    /// saves two of four wake-ups for each message that is received and acked.
    pub fn notify_end(&self, session: usize) {
        self.mark(session);
        if self.is_waited_for.load(Ordering::SeqCst) {
            self.dispatcher.wake();
        }
    }

    /// Flags the entry for the dispatcher without waking it.
    pub(in crate::pg) fn mark(&self, session: usize) {
        if let Some(map) = self.bitmap(REQUESTS) {
            map[session / 64].fetch_or(1 << (session % 64), Ordering::SeqCst);
        }
    }

    /// Sets whether ends of transactions wake the dispatcher. Returns true if that has just been turned on: then the
    /// dispatcher must collect once more, for transactions that ended just before.
    pub fn set_waited_for(&self, waited_for: bool) -> bool {
        !self.is_waited_for.swap(waited_for, Ordering::SeqCst) && waited_for
    }

    /// Takes the numbers of all flagged entries. Repeats until a pass finds nothing: so whatever was flagged before an
    /// entry that is returned is returned too. This ends, because a session posts no other request before its answer.
    pub fn take_requests(&self, found: &mut Vec<usize>) {
        found.clear();
        loop {
            let before = found.len();
            for (n, word) in self.bitmap(REQUESTS).unwrap_or(&[]).iter().enumerate() {
                if word.load(Ordering::SeqCst) != 0 {
                    push_bits(n, word.swap(0, Ordering::SeqCst), found);
                }
            }
            if found.len() == before {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Sets whether the entry's transaction has published in this database.
    pub(in crate::pg) fn set_publishing(&self, session: usize, publishing: bool) {
        let (word, bit) = (session / 64, 1u64 << (session % 64));
        if let Some(map) = self.bitmap(PUBLISHERS) {
            match publishing {
                true => map[word].fetch_or(bit, Ordering::SeqCst),
                false => map[word].fetch_and(!bit, Ordering::SeqCst),
            };
        }
    }

    /// The entries whose transactions have published in this database.
    pub(in crate::pg) fn publishing(&self) -> impl Iterator<Item = (usize, &'static SessionEntry)> {
        let mut found = Vec::new();
        for (n, word) in self.bitmap(PUBLISHERS).unwrap_or(&[]).iter().enumerate() {
            push_bits(n, word.load(Ordering::SeqCst), &mut found);
        }
        let entries = segment().map_or(&[][..], Segment::sessions);
        found.into_iter().filter_map(|n| Some((n, entries.get(n)?)))
    }

    /// A transaction that published to the stream has ended. Wakes the dispatcher if it listens to the stream.
    pub fn notify_published(&self, stream: pg_sys::Oid) {
        let (word, bit) = bit_of(stream);
        self.published[word].fetch_or(bit, Ordering::SeqCst);
        if self.listening[word].load(Ordering::SeqCst) & bit != 0 {
            self.dispatcher.wake();
        }
    }

    /// Takes the streams that were published to since the last call.
    pub fn take_published(&self) -> Published {
        let mut taken = Published([0; STREAM_BITS / 64]);
        for (word, bits) in self.published.iter().zip(&mut taken.0) {
            if word.load(Ordering::Relaxed) != 0 {
                *bits = word.swap(0, Ordering::SeqCst);
            }
        }
        taken
    }

    /// Sets the streams whose publishers wake the dispatcher when they end. After this the dispatcher must look at them
    /// once more, for publishers that ended just before.
    pub fn listen(&self, streams: impl Iterator<Item = pg_sys::Oid>) {
        let mut map = [0u64; STREAM_BITS / 64];
        for (word, bit) in streams.map(bit_of) {
            map[word] |= bit;
        }
        for (word, bits) in self.listening.iter().zip(map) {
            word.store(bits, Ordering::SeqCst);
        }
    }

    fn bitmap(&self, which: usize) -> Option<&'static [AtomicU64]> {
        let segment = segment()?;
        let index = segment.databases().iter().position(|entry| std::ptr::eq(entry, self))?;
        Some(segment.bitmap(index, which))
    }
}

fn push_bits(word: usize, mut bits: u64, found: &mut Vec<usize>) {
    while bits != 0 {
        found.push(word * 64 + bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
