//! The segment of shared memory: a header, an entry for each database, each process and each source, what they refer to,
//! and streams' counters.
//!
//! Allocated when the server starts, never grown. Zeroed memory is a valid start for all of it, so only the
//! locks are initialised. See storage/ipc/ipci.c for when the two hooks run.

use super::bounds::{self, Chunk};
use super::capturers::Capturer;
use super::database::Database;
use super::lwlock::Lock;
use super::session_entry::SessionEntry;
use super::stream_counts::{COUNTERS, Counter};
use crate::guc;
use pgrx::pg_sys;
use std::mem::{align_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The header. The parts behind it live as long as the server.
#[repr(C)]
pub struct Segment {
    /// Held while an entry of a database or a source is taken or freed.
    pub(in crate::pg) registry: Lock,
    /// The launcher.
    pub launcher: super::status::Status,
    /// Counts the dispatchers of all databases: the source of reigns.
    pub(in crate::pg) reigns: AtomicU64,
    /// Chunks of bounds that no transaction has.
    pub(in crate::pg) free_chunks: Lock<bounds::Free>,
    /// The number of capturers that sleep until a transaction commits.
    pub(in crate::pg) sleeping_capturers: AtomicU32,
    sizes: Sizes,
}

/// How many entries each part has.
#[derive(Clone, Copy)]
struct Sizes {
    databases: usize,
    sessions: usize,
    capturers: usize,
    chunks: usize,
}

static SEGMENT: AtomicPtr<Segment> = AtomicPtr::new(std::ptr::null_mut());

/// The segment; `None` when the library isn't in shared_preload_libraries.
pub fn segment() -> Option<&'static Segment> {
    // SAFETY: set once by `startup` to a block that is never freed or moved; forked processes inherit it.
    unsafe { SEGMENT.load(Ordering::Relaxed).as_ref() }
}

const fn round_up(size: usize, align: usize) -> usize {
    size.div_ceil(align) * align
}

/// Words of a bitmap with a bit for each entry.
fn words(sessions: usize) -> usize {
    sessions.div_ceil(u64::BITS as usize)
}

/// Where each part begins, in bytes from the start of the segment.
struct Layout {
    databases: usize,
    sessions: usize,
    capturers: usize,
    chunks: usize,
    counters: usize,
    bitmaps: usize,
    end: usize,
}

impl Sizes {
    /// By the settings: the same in all processes of a server.
    fn configured() -> Sizes {
        let count = |setting: i32| usize::try_from(setting).unwrap_or(0);
        Sizes {
            databases: count(guc::max_databases()),
            sessions: process_count(),
            capturers: count(guc::max_sources()),
            chunks: bounds::chunks(lock_count()),
        }
    }

    fn layout(self) -> Layout {
        let databases = round_up(size_of::<Segment>(), align_of::<Database>().max(64));
        let sessions = round_up(databases + self.databases * size_of::<Database>(), 64);
        let capturers = round_up(sessions + self.sessions * size_of::<SessionEntry>(), 64);
        let chunks = round_up(capturers + self.capturers * size_of::<Capturer>(), 64);
        let counters = round_up(chunks + self.chunks * size_of::<Chunk>(), 64);
        let bitmaps = round_up(counters + COUNTERS * size_of::<Counter>(), 64);
        let end = bitmaps + 2 * self.databases * words(self.sessions) * size_of::<AtomicU64>();
        Layout { databases, sessions, capturers, chunks, counters, bitmaps, end }
    }
}

impl Segment {
    fn part<T>(&'static self, offset: usize, len: usize) -> &'static [T] {
        // Derived from the block's own pointer: a pointer derived from `self` may only access the header.
        let base = SEGMENT.load(Ordering::Relaxed).cast::<u8>();
        // SAFETY: `layout` put `len` aligned values of T at this offset, inside the block of the size that it says;
        // zeroed memory is valid for all of them, and every field is an atomic or is only touched under a lock.
        unsafe { std::slice::from_raw_parts(base.add(offset).cast::<T>(), len) }
    }

    /// The entries of databases, used and free.
    pub fn databases(&'static self) -> &'static [Database] {
        self.part(self.sizes.layout().databases, self.sizes.databases)
    }

    /// The entries, one for each process that the server can have.
    pub fn sessions(&'static self) -> &'static [SessionEntry] {
        self.part(self.sizes.layout().sessions, self.sizes.sessions)
    }

    /// The entries of sources, used and free.
    pub fn capturers(&'static self) -> &'static [Capturer] {
        self.part(self.sizes.layout().capturers, self.sizes.capturers)
    }

    /// The chunks of bounds, used and free.
    pub(in crate::pg) fn chunks(&'static self) -> &'static [Chunk] {
        self.part(self.sizes.layout().chunks, self.sizes.chunks)
    }

    /// The counters of streams, used and free.
    pub(in crate::pg) fn counters(&'static self) -> &'static [Counter] {
        self.part(self.sizes.layout().counters, COUNTERS)
    }

    /// One of the two bitmaps (`which` is 0 or 1) of a database, with a bit for each session's entry.
    pub(in crate::pg) fn bitmap(
        &'static self,
        database: usize,
        which: usize,
    ) -> &'static [AtomicU64] {
        let words = words(self.sizes.sessions);
        let all = self.part(self.sizes.layout().bitmaps, 2 * self.sizes.databases * words);
        &all[(2 * database + which) * words..][..words]
    }
}

unsafe extern "C" {
    /// postmaster/autovacuum.h; not bound by pgrx.
    static autovacuum_max_workers: i32;
    /// storage/lock.h; the setting max_locks_per_transaction.
    static max_locks_per_xact: i32;
    /// access/twophase.h; the setting max_prepared_transactions.
    static max_prepared_xacts: i32;
}

/// Processes the server can have: MaxBackends, and a few auxiliary ones that share the numbering.
fn process_count() -> usize {
    /// NUM_AUXILIARY_PROCS is 5 to 8 in the supported versions (storage/proc.h).
    const AUXILIARY: usize = 16;
    // SAFETY: plain integers, set before the hooks run (on PostgreSQL 14 computed from the settings, as
    // InitializeMaxBackends does only after preloading there).
    let backends = unsafe {
        match pg_sys::MaxBackends {
            0 => {
                pg_sys::MaxConnections
                    + autovacuum_max_workers
                    + 1
                    + pg_sys::max_worker_processes
                    + pg_sys::max_wal_senders
            }
            known => known,
        }
    };
    usize::try_from(backends).unwrap_or(0) + AUXILIARY
}

/// Locks the server has room for, about: NLOCKENTS of storage/lmgr/lock.c.
fn lock_count() -> usize {
    // SAFETY: plain integers, set before the hooks run.
    let (each, prepared) = unsafe { (max_locks_per_xact, max_prepared_xacts) };
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    count(each) * (process_count() + count(prepared))
}

static mut NEXT_STARTUP: pg_sys::shmem_startup_hook_type = None;
#[cfg(not(feature = "pg14"))]
static mut NEXT_REQUEST: pg_sys::shmem_request_hook_type = None;

/// Asks for the segment: from `_PG_init`, while the server preloads its libraries.
pub fn register() {
    // SAFETY: the postmaster is single-threaded here, and hooks are chained as they must be.
    unsafe {
        NEXT_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
        #[cfg(not(feature = "pg14"))]
        {
            NEXT_REQUEST = pg_sys::shmem_request_hook;
            pg_sys::shmem_request_hook = Some(request);
        }
        #[cfg(feature = "pg14")]
        pg_sys::RequestAddinShmemSpace(Sizes::configured().layout().end);
    }
}

#[cfg(not(feature = "pg14"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: this hook is the only place where PostgreSQL 15 and later accept requests.
    unsafe {
        if let Some(next) = NEXT_REQUEST {
            next();
        }
        pg_sys::RequestAddinShmemSpace(Sizes::configured().layout().end);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: ShmemInitStruct returns a block of the size asked for; AddinShmemInitLock guards the race
    // between processes that EXEC_BACKEND builds would have.
    unsafe {
        if let Some(next) = NEXT_STARTUP {
            next();
        }
        let sizes = Sizes::configured();
        let size = sizes.layout().end;
        let mut found = false;
        let lock = super::lwlock::addin_shmem_init();
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let block = pg_sys::ShmemInitStruct(c"sequin".as_ptr(), size, &mut found);
        SEGMENT.store(block.cast(), Ordering::Relaxed);
        if !found {
            std::ptr::write_bytes(block.cast::<u8>(), 0, size);
            let segment = block.cast::<Segment>();
            (*segment).sizes = sizes;
            let tranche = pg_sys::LWLockNewTrancheId();
            let segment: &'static Segment = &*segment;
            segment.registry.initialise(tranche);
            segment.free_chunks.initialise(tranche);
            segment.launcher.initialise(tranche);
            segment.sessions().iter().for_each(|entry| entry.initialise(tranche));
            segment.databases().iter().for_each(|database| database.initialise(tranche));
            segment.capturers().iter().for_each(|capturer| capturer.initialise(tranche));
            bounds::initialise(&segment.free_chunks, segment.chunks());
            TRANCHE.store(tranche, Ordering::Relaxed);
        }
        pg_sys::LWLockRegisterTranche(TRANCHE.load(Ordering::Relaxed), c"sequin".as_ptr());
        pg_sys::LWLockRelease(lock);
    }
}

static TRANCHE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);
