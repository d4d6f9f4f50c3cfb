//! Running functions in savepoints: to release locks, or to survive an ERROR.

use crate::error::Result;
use crate::pg::process::TxError;
use pgrx::pg_sys;
use std::panic::AssertUnwindSafe;

/// Runs `f`, which looks something up, and keeps none of its locks: it runs in a savepoint that is rolled back, which
/// is PostgreSQL's way to release locks before the transaction ends. So a session that then waits for an hour blocks
/// nothing.
pub fn without_locks<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: plain values of this process, restored below.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: undoes the subtransaction, and goes back to the caller's memory context and resource owner, as
    // every procedural language does it (see exec_stmt_block in pl_exec.c).
    let undo = move || unsafe {
        pg_sys::RollbackAndReleaseCurrentSubTransaction();
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
    };
    // SAFETY: begins what `undo` ends, also when `f` raises an ERROR. What `f` returns is Rust's own memory.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
    }
    let result = pgrx::PgTryBuilder::new(AssertUnwindSafe(f))
        .catch_others(move |error| {
            undo();
            error.rethrow()
        })
        .catch_rust_panic(move |error| {
            undo();
            error.rethrow()
        })
        .execute();
    undo();
    result
}

/// Runs `f` in a savepoint: an ERROR inside rolls it back and is returned, and the transaction goes on.
pub fn in_savepoint<R>(f: impl FnOnce() -> Result<R>) -> Result<R, TxError> {
    // SAFETY: as in `without_locks`, but for the end of what went well.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: begins what is ended below in every case.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
    }
    let result = pgrx::PgTryBuilder::new(AssertUnwindSafe(|| f().map_err(TxError::from)))
        .catch_others(|caught| Err(crate::pg::process::failure(caught)))
        .catch_rust_panic(|caught| Err(crate::pg::process::failure(caught)))
        .execute();
    // SAFETY: ends the subtransaction, and goes back to the caller's memory context and resource owner.
    unsafe {
        match result {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}
