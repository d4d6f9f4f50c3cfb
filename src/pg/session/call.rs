//! Asking the dispatcher: post, sleep on the latch, take the answer.

use super::current;
use crate::error::{Error, Result};
use crate::pg::exec::{catalog, scan};
use crate::pg::process::{sleep, spin_wait};
use crate::pg::shared::shmem::segment;
use pgrx::pg_sys;
use sequin_engine::dispatcher::{Answer, Request};
use sequin_engine::wire;
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
            return Err(Error::NotReady(current::database()?.dispatcher.error()));
        }
        sleep(ASK_AGAIN);
        pgrx::check_for_interrupts!();
    }
}

/// Asks about a list, in as many requests as it takes, and has each answer taken.
pub fn call_in_parts<T>(
    items: &[T],
    table: Option<pg_sys::Oid>,
    request: impl Fn(&[T]) -> Request,
    take: impl FnMut(Answer) -> Result<()>,
) -> Result<()> {
    wire::in_parts(items, |part| call(&request(part), table), take)
}

fn ask(request: &Request) -> Result<Answer> {
    if !current::post(request)? {
        return Ok(Answer::TooLong);
    }
    if let Some(answer) = spin_wait(current::take_answer) {
        return Ok(answer);
    }
    let mut missing_since: Option<Instant> = None;
    loop {
        if let Some(answer) = current::take_answer() {
            return Ok(answer);
        }
        let database = current::database()?;
        let pause = if database.dispatcher.pid() != 0 {
            if missing_since.take().is_some() {
                current::remind();
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
