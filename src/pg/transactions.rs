//! Other sessions' transactions.

use pgrx::pg_sys;

/// True while a transaction is running, or has written its commit to WAL but isn't visible to others yet.
pub fn is_in_progress(xid: u32) -> bool {
    // SAFETY: looks into shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid)) }
}
