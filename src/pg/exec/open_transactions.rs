//! The transactions that are open at a moment, to wait for their ends without waiting for anything they hold.

use pgrx::pg_sys;

/// Those of this database, but for the caller's own.
pub struct OpenTransactions(Vec<pg_sys::VirtualTransactionId>);

impl OpenTransactions {
    /// Those that are open now. A transaction that begins later has processed what was invalidated before this call.
    pub fn now() -> OpenTransactions {
        // VACUUM and autovacuum: they publish nothing.
        let left_out = pg_sys::PROC_IS_AUTOVACUUM | pg_sys::PROC_IN_VACUUM;
        let mut count = 0;
        // SAFETY: returns an array of as many ids, in the current memory context.
        unsafe {
            let all = pg_sys::GetCurrentVirtualXIDs(
                pg_sys::InvalidTransactionId,
                false,
                false,
                left_out.cast_signed(),
                &mut count,
            );
            let count = usize::try_from(count).unwrap_or(0);
            OpenTransactions((0..count).map(|n| *all.add(n)).collect())
        }
    }

    /// Looks which of them have ended. In a transaction.
    pub fn look(&mut self) {
        // SAFETY: looks at shared memory, and doesn't wait.
        self.0.retain(|&it| unsafe { !pg_sys::VirtualXactLock(it, false) });
    }

    /// Whether they had all ended when that was last looked at.
    pub fn have_all_ended(&self) -> bool {
        self.0.is_empty()
    }
}
