//! The life of a background worker: its start, its signals, its end.

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::pg_sys;
#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal;
#[cfg(feature = "pg18")]
use pgrx::pg_sys::pqsignal_be as pqsignal;
use std::time::Duration;

/// Has the postmaster start the launcher, once the server accepts writes, and again if it ever fails. Not in a server
/// that pg_upgrade runs, where only the upgrade itself may write.
pub fn register_launcher() {
    // SAFETY: a plain value, set before libraries are preloaded.
    if unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    BackgroundWorkerBuilder::new("sequin launcher")
        .set_type("sequin launcher")
        .set_library("sequin")
        .set_function("sequin_launcher")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .enable_spi_access()
        .load();
}

/// Starts a worker of a database, of this kind: dispatcher, janitor or scheduler. Its end wakes the caller. `None` when the
/// server has no worker process left.
pub fn start_in_database(
    kind: &str,
    database: pg_sys::Oid,
    name: &str,
) -> Option<DynamicBackgroundWorker> {
    start(kind, name, pg_sys::Datum::from(database))
}

/// The same for the capturer of an entry.
pub fn start_capturer(entry: usize, name: &str) -> Option<DynamicBackgroundWorker> {
    start("capturer", name, pg_sys::Datum::from(entry))
}

fn start(kind: &str, name: &str, argument: pg_sys::Datum) -> Option<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new(&format!("sequin {kind} for {name}"))
        .set_type(&format!("sequin {kind}"))
        .set_library("sequin")
        .set_function(&format!("sequin_{kind}"))
        .set_argument(Some(argument))
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        // SAFETY: a plain value of this process.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .enable_spi_access()
        .load_dynamic()
        .ok()
}

/// Connects this worker to the shared catalogs, and to no database. Once, at its start.
pub fn connect_to_no_database() {
    // SAFETY: at the start of a worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
}

/// Connects this worker to a database, as the bootstrap superuser. Once, at its start.
pub fn connect(database: pg_sys::Oid) {
    // SAFETY: at the start of a worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
}

/// Ends this process such that the postmaster starts it again. After an exit with status 0 it would not, and a role
/// that may signal the process can make it exit; see CleanupBackgroundWorker() in postmaster/postmaster.c.
#[allow(unreachable_code)] // The binding of 18 doesn't say that the function never returns.
pub fn exit_to_be_restarted() -> ! {
    // SAFETY: nothing of Rust's is left on the stack that has to be dropped.
    unsafe { pg_sys::proc_exit(1) };
    std::process::abort()
}

/// Registers `f` to run when this process ends. Such functions run last in, first out, so `f` runs before ProcKill
/// releases the PGPROC, which latches and lightweight locks need.
pub fn at_exit(f: unsafe extern "C-unwind" fn(i32, pg_sys::Datum), arg: pg_sys::Datum) {
    // SAFETY: a function of this library, which is never unloaded.
    unsafe { pg_sys::on_shmem_exit(Some(f), arg) };
}

/// Asks a process to end.
pub fn terminate(pid: i32) {
    unsafe extern "C" {
        /// signal.h
        fn kill(pid: i32, signal: i32) -> i32;
    }
    if pid > 0 {
        // SAFETY: a signal to one process. If that has just ended, its pid is free for a while, since the kernel
        // assigns pids in turn. If another process of this user has it by then, SIGTERM asks that one to end in good
        // order.
        unsafe { kill(pid, pg_sys::SIGTERM.cast_signed()) };
    }
}

pub type SignalHandler = unsafe extern "C-unwind" fn(i32);

unsafe extern "C-unwind" {
    /// tcop/tcopprot.h and postmaster/interrupt.h; declared again because a signal handler must be the C function
    /// itself.
    fn die(signal: i32);
    fn SignalHandlerForShutdownRequest(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// On SIGTERM, a worker ends after the current step, so that it can write what is in memory first. Every step is
/// bounded, and waits for no lock longer than lock_timeout.
pub const AT_THE_STEPS_END: SignalHandler = SignalHandlerForShutdownRequest;

/// On SIGTERM, a worker ends at the next interrupt check: a capturer changes nothing outside of transactions, and one
/// of its steps may take long.
pub const AT_ONCE: SignalHandler = die;

pub fn attach_signals(end: SignalHandler) {
    // SAFETY: the handlers are PostgreSQL's own and async-signal-safe.
    unsafe {
        pqsignal(pg_sys::SIGTERM.cast_signed(), Some(end));
        pqsignal(pg_sys::SIGHUP.cast_signed(), Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// True once this worker has been asked to end.
pub fn must_end() -> bool {
    // SAFETY: a flag that the signal handler sets.
    unsafe { std::ptr::read_volatile(&raw const pg_sys::ShutdownRequestPending) != 0 }
}
