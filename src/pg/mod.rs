//! Where `unsafe` compiles: PostgreSQL's memory, locks, hooks and executor behind safe calls.
//!
//! Five rooms, each on those before it: `process` (latches, workers, their transactions), `shared` (shared memory),
//! `exec` (statements, scans, catalogs, rights), `wal` (logical decoding), `session` (what runs in users' sessions).

pub mod exec;
pub mod process;
pub mod session;
pub mod shared;
pub mod wal;

use pgrx::pg_sys;
use sequin_engine::settings::Micros;

/// The time now.
pub fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Registers all that must be there before the server starts. That is possible only while the postmaster preloads
/// libraries: a session that loads the library later gets an error.
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
    reserve_settings();
    shared::shmem::register();
    session::hooks::register();
    shared::capturers::register();
    process::register_launcher();
}

/// Makes a misspelt `sequin.*` setting an error, or before PostgreSQL 15 a warning. Otherwise PostgreSQL would take it
/// silently.
fn reserve_settings() {
    // SAFETY: after all settings of this prefix are defined; the name is copied.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"sequin".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"sequin".as_ptr());
    }
}
