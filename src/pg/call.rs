//! Asking the dispatcher: post, sleep on the latch, take the answer.

use super::mailbox::{Answer, Request};
use super::shmem::segment;
use super::{catalog, scan, session};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How long a call waits for a dispatcher to appear: it starts within milliseconds, unless something is
/// wrong. Time for a server that has just started with many databases.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a waiting call looks whether its dispatcher still runs. That wakes it in vain, so not often;
/// a dispatcher that is started anew answers by itself.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How often a call looks for a dispatcher that isn't there yet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How soon a request is posted again that the dispatcher could not serve.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Asks this database's dispatcher and waits for its answer. Cancel, statement_timeout and terminate work
/// meanwhile, and withdraw the request.
///
/// If the dispatcher can't read the stream because somebody keeps its `table` locked, this session waits until it is
/// free, as any statement would: the dispatcher never does. It keeps no lock on it: whoever has queued for the table
/// meanwhile comes before the dispatcher, and would wait for as long as this call waits for a message.
pub fn call(request: &Request, table: Option<pg_sys::Oid>) -> Result<Answer> {
    // SAFETY: reads the server's state.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Err(Error::InRecovery);
    }
    let mut failing_since: Option<Instant> = None;
    loop {
        match ask(request)? {
            Answer::NotNow => {}
            answer => return Ok(answer),
        }
        let begun = Instant::now();
        // One that was dropped is found out by asking again.
        if let Some(table) = table {
            catalog::await_lock_for_reading(table);
        }
        if begun.elapsed() >= ASK_AGAIN {
            failing_since = None;
            continue;
        }
        // It was not the lock: the owner may have altered the table.
        table.map_or(Ok(()), scan::check)?;
        let since = *failing_since.get_or_insert(begun);
        if since.elapsed() > PATIENCE {
            return Err(Error::NotReady(session::database()?.dispatcher.error()));
        }
        sleep(ASK_AGAIN);
        pgrx::check_for_interrupts!();
    }
}

fn ask(request: &Request) -> Result<Answer> {
    session::post(request)?;
    if let Some(answer) = look_for(session::take_answer) {
        return Ok(answer);
    }
    let mut missing_since: Option<Instant> = None;
    loop {
        if let Some(answer) = session::take_answer() {
            return Ok(answer);
        }
        let database = session::database()?;
        let pause = if database.dispatcher.pid() != 0 {
            if missing_since.take().is_some() {
                session::remind();
            }
            CHECK_EVERY
        } else {
            if missing_since.get_or_insert_with(miss_dispatcher).elapsed() > PATIENCE {
                return Err(Error::NoDispatcher(database.dispatcher.error()));
            }
            LOOK_EVERY
        };
        sleep(pause);
        pgrx::check_for_interrupts!();
    }
}

/// There is no dispatcher: the launcher may have left the database alone, and can start one now. Returns since when.
fn miss_dispatcher() -> Instant {
    if let Some(segment) = segment() {
        segment.launcher.wake();
    }
    Instant::now()
}

/// How long a session looks for its answer, and the dispatcher for its next request, before they sleep: the other one is
/// mostly just about to say something, and a wake-up costs both of them more. Receive and ack of one message at a time,
/// 4 clients on 2 cores: +23%.
const LOOK_FOR: Duration = Duration::from_micros(50);

/// Lets others run until something is there, but not for long.
pub(super) fn look_for<T>(find: impl Fn() -> Option<T>) -> Option<T> {
    unsafe extern "C" {
        /// sched.h
        fn sched_yield() -> i32;
    }
    let begun = Instant::now();
    loop {
        let found = find();
        if found.is_some() || begun.elapsed() > LOOK_FOR {
            return found;
        }
        // SAFETY: changes nothing.
        unsafe { sched_yield() };
    }
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
