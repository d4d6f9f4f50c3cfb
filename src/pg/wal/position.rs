//! Positions in WAL: up to where it is inserted and flushed, and where this process's last commit is.

use pgrx::pg_sys;

/// Up to where WAL is on disk. Nothing beyond may be captured, since a crash may lose it.
pub fn flushed() -> u64 {
    // SAFETY: reads shared memory.
    unsafe {
        #[cfg(feature = "pg14")]
        return pg_sys::GetFlushRecPtr();
        #[cfg(not(feature = "pg14"))]
        return pg_sys::GetFlushRecPtr(std::ptr::null_mut());
    }
}

/// Up to where WAL has been inserted, on disk or not.
pub fn inserted() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::GetXLogInsertRecPtr() }
}

/// Flushes WAL up to a position that has been inserted. So a reader of it need not wait for another session's commit to
/// flush it.
pub fn flush(position: u64) {
    // SAFETY: writes and syncs WAL up to the end of a record.
    unsafe { pg_sys::XLogFlush(position) };
}

/// Where the commit of this process's last transaction ends in WAL.
pub fn last_commit() -> u64 {
    // SAFETY: a plain value of this process.
    unsafe { pg_sys::XactLastCommitEnd }
}
