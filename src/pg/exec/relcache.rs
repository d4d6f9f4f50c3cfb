//! When what a session has cached of the catalogs may be out of date.

use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Rises whenever a relation's cache entry is invalidated: what was looked up under another value is to be
/// looked up again. Changing a stream or a consumer invalidates the table it is listed in.
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

/// Has every session forget what it has cached of this relation, when this transaction commits.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: an existing relation: callers pass the table whose trigger is running.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}
