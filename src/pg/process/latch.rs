//! Waiting for wake-ups: on this process's latch, or for a moment without sleeping.

use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How long a session polls for its answer, and the dispatcher for its next request, before it sleeps on its latch.
/// Mostly the other side posts within that time, and a wake-up costs both sides more than polling. Throughput of
/// receive and ack of one message at a time, 4 clients on 2 cores: +23%.
const SPIN_FOR: Duration = Duration::from_micros(50);

/// Polls `find` and yields the processor in between, for [`SPIN_FOR`] at the most. Returns what `find` found.
pub fn spin_wait<T>(find: impl Fn() -> Option<T>) -> Option<T> {
    unsafe extern "C" {
        /// sched.h
        fn sched_yield() -> i32;
    }
    let begun = Instant::now();
    loop {
        let found = find();
        if found.is_some() || begun.elapsed() > SPIN_FOR {
            return found;
        }
        // SAFETY: changes nothing.
        unsafe { sched_yield() };
    }
}

/// Polls this process's latch for [`SPIN_FOR`], without sleeping: see [`spin_wait`].
pub fn spin_for_latch() {
    let is_woken = || {
        // SAFETY: this process's own latch.
        unsafe { (&raw const (*pg_sys::MyLatch).is_set).read_volatile() != 0 }
    };
    spin_wait(|| is_woken().then_some(()));
}

/// Sleeps until the latch is set or `time` is over; without a limit if it is `None`. Then handles pending signals:
/// reloads the configuration, ends the process.
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

/// Sleeps until this process's latch is set, at most for `time`.
pub fn sleep(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    let timeout = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1);
    // SAFETY: this process's own latch.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events.cast_signed(),
            timeout,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}
