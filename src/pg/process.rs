//! Being a background worker: starting, transactions that survive an error, signals, the end.

use super::call::look_for;
use super::shmem;
use crate::error::Result;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
#[cfg(not(feature = "pg18"))]
use pgrx::pg_sys::pqsignal;
#[cfg(feature = "pg18")]
use pgrx::pg_sys::pqsignal_be as pqsignal;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Has the postmaster start the launcher, once the server accepts writes, and again if it ever fails. Not in a server
/// that pg_upgrade runs: nothing but the upgrade may write there.
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

/// Starts a dispatcher; its end wakes the caller. `None` when the server has no worker process left.
pub fn start_dispatcher(database: pg_sys::Oid, name: &str) -> Option<DynamicBackgroundWorker> {
    start("dispatcher", name, pg_sys::Datum::from(database))
}

/// Starts the capturer of an entry, likewise.
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

/// The launcher's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_launcher(_arg: pg_sys::Datum) {
    attach_signals(AT_THE_STEPS_END);
    // SAFETY: once, at the start of a worker: no database, just the shared catalogs.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    if let Some(segment) = shmem::segment()
        && segment.launcher.enter()
    {
        at_exit(leave_launcher, pg_sys::Datum::null());
        crate::worker::launcher::run(segment);
    }
    // SAFETY: nothing of Rust's is left on the stack. A worker that ends with status 0 is never started again, and
    // anybody who may signal it may end this one; see CleanupBackgroundWorker() in postmaster/postmaster.c.
    unsafe { pg_sys::proc_exit(1) };
}

/// A dispatcher's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_dispatcher(arg: pg_sys::Datum) {
    attach_signals(AT_THE_STEPS_END);
    let oid = pg_sys::Oid::from(arg.value() as u32);
    let Some(database) = super::database::Database::find(oid) else { return };
    if !database.dispatcher.enter() {
        return;
    }
    at_exit(leave_dispatcher, arg);
    // SAFETY: once, at the start of a worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0);
    }
    crate::worker::dispatcher::run(database);
}

/// A capturer's process begins here.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
extern "C-unwind" fn sequin_capturer(arg: pg_sys::Datum) {
    attach_signals(AT_ONCE);
    let Some(entry) = super::capturers::get(arg.value()) else { return };
    if !entry.status.enter() {
        return;
    }
    at_exit(leave_capturer, arg);
    // The entry is this process's from here on, if it was not given back before.
    let database = entry.database();
    if database == pg_sys::InvalidOid || !entry.is_wanted() {
        return;
    }
    // SAFETY: once, at the start of a worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    crate::worker::capturer::run(entry);
}

fn at_exit(f: unsafe extern "C-unwind" fn(i32, pg_sys::Datum), arg: pg_sys::Datum) {
    // SAFETY: a function of this library, which is never unloaded. These run last in, first out: before the process gives
    // back its PGPROC (ProcKill), which latches and lightweight locks need.
    unsafe { pg_sys::on_shmem_exit(Some(f), arg) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave_launcher(_code: i32, _arg: pg_sys::Datum) {
    if let Some(segment) = shmem::segment() {
        segment.launcher.leave();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave_dispatcher(_code: i32, arg: pg_sys::Datum) {
    let oid = pg_sys::Oid::from(arg.value() as u32);
    if let Some(database) = super::database::Database::find(oid) {
        database.end_reign();
        database.dispatcher.leave();
    }
    if let Some(segment) = shmem::segment() {
        segment.launcher.wake();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave_capturer(_code: i32, arg: pg_sys::Datum) {
    if let Some(entry) = super::capturers::get(arg.value()) {
        entry.is_awake();
        entry.status.leave();
    }
    if let Some(segment) = shmem::segment() {
        segment.launcher.wake();
    }
}

/// Asks a process to end.
pub fn terminate(pid: i32) {
    unsafe extern "C" {
        /// signal.h
        fn kill(pid: i32, signal: i32) -> i32;
    }
    if pid > 0 {
        // SAFETY: a signal to one process. One that has just ended leaves its number unused for a while, as the kernel
        // gives numbers out in turn; and to any other of this user's it is a request to end in good order.
        unsafe { kill(pid, pg_sys::SIGTERM.cast_signed()) };
    }
}

type SignalHandler = unsafe extern "C-unwind" fn(i32);

unsafe extern "C-unwind" {
    /// tcop/tcopprot.h and postmaster/interrupt.h; declared again because a signal handler must be the C function
    /// itself.
    fn die(signal: i32);
    fn SignalHandlerForShutdownRequest(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Asked to end, it leaves at the next step's end, so that what is in memory can be written first; every step is
/// bounded, and waits for no lock longer than lock_timeout.
const AT_THE_STEPS_END: SignalHandler = SignalHandlerForShutdownRequest;

/// Asked to end, it leaves where it is: all that a capturer does is in transactions, and a step may take long.
const AT_ONCE: SignalHandler = die;

fn attach_signals(leave: SignalHandler) {
    // SAFETY: the handlers are PostgreSQL's own and async-signal-safe.
    unsafe {
        pqsignal(pg_sys::SIGTERM.cast_signed(), Some(leave));
        pqsignal(pg_sys::SIGHUP.cast_signed(), Some(SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// True once this worker has been asked to end.
pub fn must_end() -> bool {
    // SAFETY: a flag that the signal handler sets.
    unsafe { std::ptr::read_volatile(&raw const pg_sys::ShutdownRequestPending) != 0 }
}

/// Looks for a wake-up for a moment, without sleeping: see [`look_for`].
pub fn look_out() {
    let is_woken = || {
        // SAFETY: this process's own latch.
        unsafe { (&raw const (*pg_sys::MyLatch).is_set).read_volatile() != 0 }
    };
    look_for(|| is_woken().then_some(()));
}

/// Sleeps until the latch is set or `time` is over; forever if `None`. Then does what signals asked for.
pub fn wait(time: Option<Duration>) {
    let timed = if time.is_some() { pg_sys::WL_TIMEOUT } else { 0 };
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | timed;
    let millis =
        time.map_or(-1, |t| i64::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i64::MAX));
    // SAFETY: this process's own latch; no transaction is open.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events.cast_signed(), millis, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if std::ptr::read_volatile(&raw const pg_sys::ConfigReloadPending) != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
    pgrx::check_for_interrupts!();
}

/// Sets a setting for this worker only.
pub fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: names of settings that exist, with values that are right for them.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
}

/// What a worker that runs statements of sequin's needs, whatever ALTER DATABASE has made of it. Settings of time zone and
/// locale stay the database's own: they are part of what its values look like.
const DEFAULTS: &[(&str, &str)] = &[
    // A crash may lose the last moments, by design: what they say comes again, or is captured again.
    ("synchronous_commit", "off"),
    // What names mean, and which rows are seen.
    ("search_path", "pg_catalog, pg_temp"),
    ("row_security", "off"),
    ("session_replication_role", "origin"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("standard_conforming_strings", "on"),
    // Whether a transaction may write, and what it may wait for.
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    ("transaction_timeout", "0"),
    // Where things go.
    ("default_tablespace", ""),
    ("temp_tablespaces", ""),
    // No more processes, and no compiling, for statements that touch a few rows.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// Sets [`DEFAULTS`].
pub fn set_defaults() {
    be_superuser();
    DEFAULTS.iter().for_each(|(name, value)| set(name, value));
}

/// A database may have its sessions begin as another role: ALTER DATABASE .. SET role, or session_authorization. Workers
/// are the superuser that they were started as.
fn be_superuser() {
    // SAFETY: outside of a transaction, and looks nothing up; the worker was authenticated as this role.
    unsafe {
        let bootstrap = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        pg_sys::SetSessionAuthorization(bootstrap, true);
    }
    // Behind it: this makes the session's user the current one.
    set("role", "none");
}

/// Runs `f` in a transaction of its own. An error, PostgreSQL's or ours, rolls it back and is returned as
/// text; the worker goes on.
pub fn transaction<R>(f: impl FnOnce() -> Result<R>) -> Result<R, String> {
    patient_transaction(f).map_err(|failure| failure.text)
}

/// Why a transaction failed.
pub struct Failure {
    pub text: String,
    /// Somebody had a lock for longer than lock_timeout: later it may go well.
    pub is_lock: bool,
}

/// As [`transaction`], for a caller that tries again what only a lock has kept from being done.
pub fn patient_transaction<R>(f: impl FnOnce() -> Result<R>) -> Result<R, Failure> {
    // SAFETY: no transaction is open, which is how workers are between steps.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        // SPI wants an outer snapshot; reads that must see what is newest take one of their own.
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let result = pgrx::PgTryBuilder::new(AssertUnwindSafe(|| match f() {
        Ok(value) => {
            // SAFETY: the transaction begun above.
            unsafe {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommitTransactionCommand();
            }
            Ok(value)
        }
        Err(error) => Err(Failure { text: error.describe(), is_lock: false }),
    }))
    .catch_others(|caught| Err(failure(caught)))
    .catch_rust_panic(|caught| Err(failure(caught)))
    .execute();
    // SAFETY: ends the transaction if the commit above hasn't; statistics are reported between transactions.
    unsafe {
        if result.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
    }
    result
}

/// Runs `f` outside of a transaction. An error, PostgreSQL's or ours, is returned as text; what it leaves is for the
/// end of the process to clean up.
pub fn attempt<R>(f: impl FnOnce() -> Result<R>) -> Result<R, String> {
    pgrx::PgTryBuilder::new(AssertUnwindSafe(|| f().map_err(|error| error.describe())))
        .catch_others(|caught| Err(describe(caught)))
        .catch_rust_panic(|caught| Err(describe(caught)))
        .execute()
}

fn failure(caught: CaughtError) -> Failure {
    use pgrx::PgSqlErrorCode::{ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_T_R_DEADLOCK_DETECTED};
    let is_lock = match &caught {
        CaughtError::PostgresError(report) => matches!(
            report.sql_error_code(),
            ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED
        ),
        _ => false,
    };
    Failure { text: describe(caught), is_lock }
}

pub(super) fn describe(caught: CaughtError) -> String {
    match caught {
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. } => match report.detail() {
            Some(detail) => format!("{} ({detail})", report.message()),
            None => report.message().into(),
        },
    }
}
