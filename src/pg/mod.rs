//! The only place where `unsafe` compiles: PostgreSQL's memory, locks, hooks and executor behind safe calls.

pub mod append;
pub mod array;
mod bounds;
pub mod call;
pub mod caller;
pub mod capturers;
pub mod catalog;
pub mod condition;
pub mod database;
pub mod datum;
pub mod decode;
mod fate;
mod generated;
pub mod hooks;
pub mod input;
pub mod insert;
pub mod installation;
pub mod lease;
pub mod lwlock;
pub mod mailbox;
pub mod memory;
mod moment;
pub mod owners;
pub mod process;
pub mod publish;
pub mod received;
pub mod relcache;
pub mod replication_slot;
pub mod role;
pub mod scan;
pub mod sequence;
pub mod session;
pub mod shmem;
pub mod slot;
pub mod snapshot;
pub mod spi;
pub mod spool;
pub mod status;
mod stream_commands;
pub mod stream_table;
pub mod transactions;

use crate::engine::settings::Micros;
use pgrx::pg_sys;

/// The time now.
pub fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// The number of this process among all that the server can have.
fn process_number() -> Option<usize> {
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

/// Registers all that must be there before the server starts. Only preloading can: a session that loads the
/// library by itself is told so.
pub fn load() {
    // SAFETY: a plain flag of the server.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        crate::error::Error::NotPreloaded.raise();
    }
    // SAFETY: the postmaster has one thread. With one of these set, pgrx would put a backtrace into the DETAIL
    // of every error that a client sees.
    unsafe {
        std::env::remove_var("RUST_BACKTRACE");
        std::env::remove_var("RUST_LIB_BACKTRACE");
    }
    crate::guc::register();
    shmem::register();
    hooks::register();
    capturers::register();
    process::register_launcher();
}
