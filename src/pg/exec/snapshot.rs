//! A snapshot for reads that must see what is committed by now, whatever the transaction's isolation level.

use crate::pg::shared::bounds::Xid;
use pgrx::pg_sys;

/// A registered snapshot. After an ERROR the transaction's resource owner releases it.
pub struct Snapshot(pg_sys::Snapshot);

/// Runs `f`, whose statements of [`super::spi::Access::Snapshot`] all see what is committed by now, and nothing later.
/// After an ERROR in `f`, the end of the transaction pops the snapshot.
pub fn with_newest<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: in a transaction. What GetLatestSnapshot() returns is static until it is pushed, which copies it.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = f();
    // SAFETY: pushed above, and what `f` has pushed it has popped.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

impl Snapshot {
    pub fn newest() -> Self {
        // SAFETY: in a transaction, which is when statements and workers' steps run. What GetLatestSnapshot() returns
        // is static until it is registered, which copies it.
        Self(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) })
    }

    /// Whether a transaction had not ended yet when the snapshot was taken. If it had, all that it has written is
    /// visible, or nothing of it ever will be.
    pub fn is_running(&self, xid: Xid) -> bool {
        // SAFETY: an MVCC snapshot that is registered.
        unsafe { pg_sys::XidInMVCCSnapshot(pg_sys::TransactionId::from(xid), self.0) }
    }

    pub(in crate::pg) fn as_ptr(&self) -> pg_sys::Snapshot {
        self.0
    }

    pub fn close(self) {
        // SAFETY: registered by `newest`, in the same transaction.
        unsafe { pg_sys::UnregisterSnapshot(self.0) };
    }
}
