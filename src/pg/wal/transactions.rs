//! Other sessions' transactions.

use pgrx::pg_sys;
use std::thread;
use std::time::{Duration, Instant};

/// True while a transaction is running, or has written its commit to WAL but isn't visible to others yet.
pub fn is_in_progress(xid: u32) -> bool {
    // SAFETY: looks into shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid)) }
}

/// How often a wait checks whether the transaction has ended. Mostly its commit is in WAL already.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits until others see what a transaction has written, or until it is rolled back. False if that takes longer than
/// `patience`: a commit may wait for a synchronous standby.
pub fn wait_for_end(xid: u32, patience: Duration) -> bool {
    let begun = Instant::now();
    while is_in_progress(xid) {
        if begun.elapsed() >= patience {
            return false;
        }
        thread::sleep(LOOK_EVERY);
        pgrx::check_for_interrupts!();
    }
    true
}
