//! Processes: waiting, the life of a worker, its transactions and settings.

mod latch;
mod settings;
mod transaction;
mod worker;

pub use latch::{sleep, spin_for_latch, spin_wait, wait};
pub use settings::{set, set_defaults};
pub(in crate::pg) use transaction::describe;
pub use transaction::{TxError, attempt, transaction, try_transaction};
pub use worker::*;

use pgrx::pg_sys;

/// The number of this process among all that the server can have.
pub(in crate::pg) fn number() -> Option<usize> {
    // SAFETY: this process's own entry in shared memory, if it has one.
    let proc = unsafe { pg_sys::MyProc.as_ref() }?;
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    let number = proc.pgprocno;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    let number = {
        let _ = proc;
        // SAFETY: a plain integer, set together with MyProc.
        unsafe { pg_sys::MyProcNumber }
    };
    usize::try_from(number).ok()
}
