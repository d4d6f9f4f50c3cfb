//! Processes: waiting, the life of a worker, its transactions and settings.

mod latch;
mod settings;
mod transaction;
mod worker;

pub use latch::{sleep, spin_for_latch, spin_wait, wait};
pub(in crate::pg) use settings::BY_INDEX;
pub use settings::{set, set_by_index, set_defaults};
pub(in crate::pg) use transaction::failure;
pub use transaction::{TxError, attempt, transaction, try_transaction};
pub use worker::*;

use pgrx::pg_sys;
use sequin_engine::settings::Micros;

/// The time on a clock that never steps, the same in all processes.
pub fn monotonic() -> Micros {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: std::ffi::c_long,
    }
    unsafe extern "C" {
        /// time.h
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_MONOTONIC: i32 = 1;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: fills in the struct, whose layout is the C library's; the clock is there on every Linux.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut time) };
    time.seconds * 1_000_000 + time.nanoseconds / 1000
}

/// The number of this process (pgprocno), from 0 up to the most processes that the server can have.
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
