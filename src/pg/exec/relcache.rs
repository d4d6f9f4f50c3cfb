//! When a session's own caches of what it has looked up become stale.

use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// A number that rises whenever PostgreSQL invalidates a relation's cache entry. What was looked up under another
/// number must be looked up again. A change of a stream or a consumer invalidates the table that lists it.
pub fn generation() -> u64 {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a function of this library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), pg_sys::Datum::null());
        }
    }
    GENERATION.get()
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn invalidated(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
    GENERATION.set(GENERATION.get() + 1);
}

/// Makes every session forget what it has cached of this relation when this transaction commits.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: an existing relation: callers pass the table whose trigger is running.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}
