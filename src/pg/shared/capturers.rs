//! The sources that are to be captured: an entry in shared memory for each, and the wake-up of sleeping capturers when
//! a transaction commits.

use super::shmem::{Segment, segment};
use super::status::Status;
use crate::pg::process;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// One entry. Free while `database` is 0. The dispatcher of the database enters and removes its sources, the
/// launcher runs a capturer for each.
#[repr(C)]
pub struct Capturer {
    database: AtomicU32,
    source: AtomicI32,
    /// The launcher should keep a capturer running.
    enabled: AtomicBool,
    /// Its capturer sleeps until a transaction commits in its database.
    sleeping: AtomicBool,
    /// The settings of sources have changed since its capturer last read them.
    config_changed: AtomicBool,
    pub status: Status,
}

/// The entries in use.
pub fn all() -> impl Iterator<Item = (usize, &'static Capturer)> {
    let entries = segment().map_or(&[][..], Segment::capturers);
    entries.iter().enumerate().filter(|(_, entry)| entry.database() != pg_sys::InvalidOid)
}

/// The entry of this number.
pub fn get(number: usize) -> Option<&'static Capturer> {
    segment()?.capturers().get(number)
}

/// Makes exactly these sources of a database captured. The database's other entries are freed when their capturers have
/// detached. Returns the sources for which no entry is left.
pub fn set_enabled(database: pg_sys::Oid, sources: &[i32]) -> Vec<i32> {
    let Some(segment) = segment() else { return sources.to_vec() };
    let _registry = segment.registry.lock();
    for (_, entry) in all().filter(|(_, entry)| entry.database() == database) {
        let enabled = sources.contains(&entry.source());
        entry.enabled.store(enabled, Ordering::Release);
        match entry.status.pid() {
            _ if enabled => {}
            0 => entry.free(),
            pid => process::terminate(pid),
        }
    }
    let known: Vec<i32> = (all().filter(|(_, entry)| entry.database() == database))
        .map(|(_, entry)| entry.source())
        .collect();
    let mut left = Vec::new();
    for &source in sources.iter().filter(|source| !known.contains(source)) {
        let entries = segment.capturers();
        match entries.iter().find(|entry| entry.database() == pg_sys::InvalidOid) {
            Some(free) => free.take(database, source),
            None => left.push(source),
        }
    }
    segment.launcher.wake();
    left
}

/// True while some capturer of the database runs.
pub fn are_running(database: pg_sys::Oid) -> bool {
    all().any(|(_, entry)| entry.database() == database && entry.status.pid() != 0)
}

/// A transaction that changed sources, or may have, has committed.
pub(in crate::pg) fn notify_config(database: pg_sys::Oid) {
    for (_, entry) in all().filter(|(_, entry)| entry.database() == database) {
        entry.config_changed.store(true, Ordering::SeqCst);
        entry.status.wake();
    }
}

/// Terminates all capturers of a database. The launcher starts them again unless the database is suspended.
pub fn terminate(database: pg_sys::Oid) {
    let here = all().filter(|(_, entry)| entry.database() == database);
    here.for_each(|(_, entry)| process::terminate(entry.status.pid()));
}

impl Capturer {
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        self.status.initialise(tranche);
    }

    fn take(&self, database: pg_sys::Oid, source: i32) {
        self.source.store(source, Ordering::Relaxed);
        self.enabled.store(true, Ordering::Relaxed);
        self.sleeping.store(false, Ordering::Relaxed);
        self.status.set_error("");
        self.database.store(database.to_u32(), Ordering::Release);
    }

    fn free(&self) {
        self.enabled.store(false, Ordering::Relaxed);
        self.database.store(0, Ordering::Release);
    }

    /// Frees the entry, if its capturer is detached and it is not enabled any more, or its database `is_gone`.
    pub fn release(&self, is_gone: bool) {
        let Some(segment) = segment() else { return };
        let _registry = segment.registry.lock();
        if self.status.pid() == 0 && (is_gone || !self.is_enabled()) {
            self.free();
        }
    }

    /// The database of its source; `InvalidOid` if the entry is free.
    pub fn database(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.database.load(Ordering::Acquire))
    }

    /// The id of its source.
    pub fn source(&self) -> i32 {
        self.source.load(Ordering::Acquire)
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// True once after settings have changed.
    pub fn take_config_changed(&self) -> bool {
        self.config_changed.swap(false, Ordering::SeqCst)
    }

    /// From now on a commit in this database wakes the capturer. Before it sleeps it must look for new WAL once more,
    /// since a commit just before this has not woken it.
    pub fn sleep_until_commit(&self) {
        if !self.sleeping.swap(true, Ordering::SeqCst)
            && let Some(segment) = segment()
        {
            segment.sleeping_capturers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// From now on commits don't wake the capturer.
    pub fn stop_sleeping(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst)
            && let Some(segment) = segment()
        {
            segment.sleeping_capturers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Registers the commit callback: from `_PG_init`, in the postmaster, from which all processes inherit it.
pub(in crate::pg) fn register() {
    // SAFETY: a function of this library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(at_commit), std::ptr::null_mut()) };
}

/// Runs at the end of each transaction of the server, and costs a load of one word unless a capturer sleeps. Only
/// transactions with an id matter: others have written nothing.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn at_commit(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    let Some(segment) = segment() else { return };
    if segment.sleeping_capturers.load(Ordering::SeqCst) == 0
        || event != pg_sys::XactEvent::XACT_EVENT_COMMIT
    {
        return;
    }
    // SAFETY: plain values of this process. The transaction's id is still there when commit callbacks run:
    // CommitTransaction resets it at the very end.
    let (xid, here) =
        unsafe { (pg_sys::GetTopTransactionIdIfAny(), pg_sys::MyDatabaseId.to_u32()) };
    if xid == pg_sys::InvalidTransactionId {
        return;
    }
    for entry in segment.capturers() {
        if entry.database.load(Ordering::Relaxed) == here && entry.sleeping.load(Ordering::SeqCst) {
            entry.stop_sleeping();
            entry.status.wake();
        }
    }
}
