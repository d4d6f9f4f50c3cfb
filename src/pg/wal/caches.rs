//! This process's caches of the catalogs, in which two times meet: decoding looks the catalogs up as they were at the
//! change, and between two calls of it this process reads and writes tables as they are now.
//!
//! Mostly both see the same. What has been committed since the change makes the difference: a table that was rewritten or
//! altered meanwhile. PostgreSQL keeps the two apart only within decoding, as a walsender does nothing else, and what it
//! has cached of an old table stays: a row that is inserted then goes into the table's old file, which is about to be
//! deleted. So, while there is a difference, the caches are emptied whenever the time changes.

use pgrx::pg_sys;

/// Whether the two times may differ.
pub(super) struct Caches {
    /// How many invalidations this process had received when that was last looked at.
    received: u64,
    /// The present has changed, by commits up to here in WAL: decoding has to come this far to see the same. 0 if it does.
    ahead: u64,
}

impl Caches {
    /// Decoding begins, somewhere in the past.
    pub fn new() -> Caches {
        // SAFETY: in a transaction, in which the caches may be emptied; reads shared memory.
        unsafe {
            pg_sys::InvalidateSystemCaches();
            Caches { received: 0, ahead: pg_sys::GetXLogInsertRecPtr() }
        }
    }

    /// Whether decoding sees the catalogs as they are now.
    pub fn are_good_for_both(&self) -> bool {
        self.ahead == 0
    }

    /// To be called before and after decoding, in a transaction. Decoding is at `position`, and has changes of transactions
    /// that are decoded later from `oldest` on.
    pub fn change_time(&mut self, position: u64, oldest: Option<u64>) {
        // SAFETY: plain values of this process and of shared memory. In a transaction, the caches may be emptied.
        unsafe {
            let received = (&raw const pg_sys::SharedInvalidMessageCounter).read();
            if received != self.received {
                self.received = received;
                // What was received has been committed before.
                self.ahead = pg_sys::GetXLogInsertRecPtr();
            }
            if self.ahead == 0 {
                return;
            }
            if position >= self.ahead && oldest.is_none_or(|oldest| oldest >= self.ahead) {
                self.ahead = 0;
            }
            pg_sys::InvalidateSystemCaches();
        }
    }
}
