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

/// How long a call waits for a dispatcher to start. That takes milliseconds, or longer where the server has just
/// started with many databases.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a waiting call checks that its dispatcher still runs. Not often, since the wake-up is mostly in vain, and
/// a new dispatcher answers without being reminded.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How often a call checks for a dispatcher that doesn't run yet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After which time a request is posted again that the dispatcher could not serve.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Asks this database's dispatcher and waits for its answer. Cancel, statement_timeout and terminate work
/// meanwhile, and withdraw the request.
///
/// If the dispatcher can't read the stream because another session has locked its `table`, this session waits for that
/// lock, as any statement would; the dispatcher never waits for it. This session doesn't keep the lock: a session that
/// has queued for the table meanwhile is before the dispatcher in the queue, and would wait for as long as this call
/// waits for a message.
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
        // If the table was dropped meanwhile, the next answer says so.
        if let Some(table) = table {
            catalog::await_lock_for_reading(table);
        }
        if begun.elapsed() >= ASK_AGAIN {
            failing_since = None;
            continue;
        }
        // It was not for a lock. The owner may have altered the table.
        table.map_or(Ok(()), scan::check)?;
        let since = *failing_since.get_or_insert(begun);
        if since.elapsed() > PATIENCE {
            return Err(Error::NotReady(current::database()?.dispatcher.error()));
        }
        sleep(ASK_AGAIN);
        pgrx::check_for_interrupts!();
    }
}

/// Asks about a list in as many requests as it takes, and hands each answer to `take`.
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

/// Called when there is no dispatcher: wakes the launcher, which may have given up on the database and can start one
/// now. Returns the time.
fn miss_dispatcher() -> Instant {
    if let Some(segment) = segment() {
        segment.launcher.wake();
    }
    Instant::now()
}
