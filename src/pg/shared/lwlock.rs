//! A lightweight lock of PostgreSQL's with the data it guards. It is held for about a microsecond, and never while
//! anything can raise an error.

use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

/// A lock in shared memory. Zeroed is not a valid state: call `initialise` first.
#[repr(C)]
pub struct Lock<T = ()> {
    lock: UnsafeCell<pg_sys::LWLock>,
    data: UnsafeCell<T>,
}

// SAFETY: the data is only reached through `lock`, which excludes all other processes.
unsafe impl<T> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Once, when the server starts.
    pub(in crate::pg) fn initialise(&self, tranche: i32) {
        // SAFETY: no other process can see the lock yet.
        unsafe { pg_sys::LWLockInitialize(self.lock.get(), tranche) };
    }

    /// Waits for the lock. Cancel and terminate are held back until it is released.
    pub fn lock(&self) -> Guard<'_, T> {
        // SAFETY: a plain integer, which `initialise` has set. A zeroed lock seems to work until two processes contend
        // for it, and then neither ever gets it.
        debug_assert_ne!(unsafe { (*self.lock.get()).tranche }, 0, "a lock was never initialised");
        // SAFETY: an initialised LWLock in shared memory; this process has a PGPROC, or it couldn't be
        // running SQL or a worker.
        unsafe { pg_sys::LWLockAcquire(self.lock.get(), pg_sys::LWLockMode::LW_EXCLUSIVE) };
        Guard(self)
    }
}

/// The data, for as long as the lock is held.
pub struct Guard<'a, T>(&'a Lock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held exclusively while this guard exists.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: held by this guard, and error recovery (LWLockReleaseAll) can't have come between, since
        // nothing raises while a guard is alive.
        unsafe { pg_sys::LWLockRelease(self.0.lock.get()) };
    }
}

/// AddinShmemInitLock: a macro in C, its number is fixed per major version (storage/lwlocknames.h).
pub(in crate::pg) fn addin_shmem_init() -> *mut pg_sys::LWLock {
    const ADDIN_SHMEM_INIT_LOCK: usize = 21;
    // SAFETY: the fixed locks are the head of MainLWLockArray.
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(ADDIN_SHMEM_INIT_LOCK)).lock }
}
