//! The dispatcher of a database: a loop around its rules, which are `sequin_engine::dispatcher`.
//!
//! A step collects what has come in, hands it in, and carries out what the rules ask for: `entries` is the memory that
//! sessions share with it, `reading` and `writing` are the tables, `sources` has the capturers run. Nothing here decides
//! who may have which message when.

mod entries;
mod reading;
mod sources;
mod writing;

use crate::pg::exec::catalog;
use crate::pg::exec::owners::{self, Owned};
use crate::pg::process::{self, TxError};
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::store::{acks, checkpoints};
use crate::{guc, pg, store};
use entries::Entries;
use pgrx::pg_sys::Oid;
use sequin_engine::dispatcher::{Clock, Dispatcher, Effect, End, Failure, Input};
use sequin_engine::ids::StreamId;
use sequin_engine::settings::Micros;
use std::collections::VecDeque;
use std::time::Duration;
use writing::Folded;

/// The longest sleep: leases are in memory and everything else wakes the latch, so this is only for missed
/// wake-ups that should not exist.
const HEARTBEAT: Micros = 60_000_000;

/// Nothing here waits for anybody's lock for long (I10). That is for locks on sequin's own tables; for rows that users can
/// lock nothing here waits at all.
const LOCK_TIMEOUT: &str = "200ms";

/// When the configuration is read again that could not be.
const RETRY_CONFIG: Micros = 100_000;

/// Runs until the extension or the server goes away.
pub fn run(database: &'static Database) {
    process::set_defaults();
    process::set("lock_timeout", LOCK_TIMEOUT);
    // The journals are read past what is folded, by index and from its end: never through the dead rows before that
    // (I9). To the planner a table of dead rows is empty, and all ways through it are the same.
    for (way, on) in
        [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_indexscan", "on")]
    {
        process::set(way, on);
    }
    match start(database) {
        Ok(Some(mut worker)) => {
            database.dispatcher.set_error("");
            match worker.live() {
                Some(End::NoExtension) => end_for_good(database),
                Some(End::NeedsEpoch) | None => worker.stop(),
            }
            database.dispatcher.exited_cleanly();
        }
        Ok(None) => {
            end_for_good(database);
            database.dispatcher.exited_cleanly();
        }
        Err(error) => {
            database.dispatcher.set_error(&error);
            pgrx::warning!("sequin dispatcher cannot start: {error}");
        }
    }
}

fn end_for_good(database: &Database) {
    sources::clear_out(database);
    database.set_enabled(false);
    // The extension may have been created just now; whoever commits that says so before wanting a dispatcher.
    if database.has_config_changed() {
        database.take_changes();
        database.set_enabled(true);
    }
    entries::refuse_all(database);
}

/// Takes over from the predecessor: a new epoch, and the rows of transactions that rely on it and are committing.
/// `None`: there is no extension here.
fn start(database: &'static Database) -> Result<Option<Worker>, String> {
    if process::must_end() || session_entry::is_suspended(database.oid()) {
        return Err("asked to end before it had started".into());
    }
    if !process::transaction(|| Ok(catalog::extension().is_some()))? {
        return Ok(None);
    }
    process::transaction(catalog::check_members)?;
    process::set("synchronous_commit", "on");
    let epoch = process::transaction(store::epoch::take)?;
    process::set("synchronous_commit", "off");
    let rules = Dispatcher::new(epoch).ok_or("the epochs of sequin.epoch are used up")?;
    entries::take_over(database);
    // What a lock or a full disk keeps from being deleted now waits for the next start.
    let clean_up = || acks::dropped()?.into_iter().try_for_each(checkpoints::forget);
    if let Err(error) = process::transaction(clean_up) {
        pgrx::warning!("sequin dispatcher: cannot clean up after dropped consumers: {error}");
    }
    // pg_upgrade copies the tables, and nobody is told.
    let note_owners = || Owned::ALL.into_iter().try_for_each(owners::sync);
    if let Err(error) = process::transaction(note_owners) {
        pgrx::warning!("sequin dispatcher: cannot note who owns consumers and sources: {error}");
    }
    Ok(Some(Worker { database, rules, effects: VecDeque::new(), next_sweep: 0 }))
}

struct Worker {
    database: &'static Database,
    rules: Dispatcher,
    /// What is to be done.
    effects: VecDeque<Effect>,
    /// When replication slots are to be looked through for those that are nobody's.
    next_sweep: Micros,
}

impl Worker {
    /// Until there is a reason to end, or it is asked to: by a signal or to make way; the launcher starts another when it
    /// may.
    fn live(&mut self) -> Option<End> {
        let mut marked = Vec::new();
        loop {
            if process::must_end() || session_entry::is_suspended(self.database.oid()) {
                return None;
            }
            if let Err(end) = self.step(&mut marked) {
                return Some(end);
            }
            let pause = self.pause();
            if !pause.is_zero() {
                process::spin_for_latch();
            }
            process::wait(Some(pause));
        }
    }

    /// One round: everything that has come in, then everything that follows from it.
    fn step(&mut self, marked: &mut Vec<usize>) -> Result<(), End> {
        self.rules.set_memory_budget(guc::dispatcher_memory());
        self.apply_changes()?;
        if !self.rules.is_ready() {
            self.hand_in(Input::Tick)?;
        }
        if !self.rules.is_ready() {
            // Nobody can be told whether a consumer exists.
            return Ok(());
        }
        let published = self.database.take_published();
        if !published.is_empty() {
            let watched = self.rules.watched();
            let streams = watched.filter(|&stream| published.contains(table_of(stream))).collect();
            self.hand_in(Input::Published(streams))?;
        }
        self.database.take_requests(marked);
        let (outcomes, asked) = entries::collect(self.database, marked);
        self.hand_in(Input::Outcomes(outcomes))?;
        // What these requests rely on was committed before they were made: now it is seen. If this process ends here, they
        // are left to the next dispatcher.
        self.apply_changes()?;
        self.hand_in(Input::Requests(asked))?;
        self.hand_in(Input::Tick)?;
        self.sweep_slots();
        Ok(())
    }

    /// If streams or consumers have changed. Sessions rely on nothing that was said before once the change is noted.
    fn apply_changes(&mut self) -> Result<(), End> {
        if !self.database.has_config_changed() {
            return Ok(());
        }
        self.hand_in(Input::ConfigChanged)
    }

    fn hand_in(&mut self, input: Input) -> Result<(), End> {
        self.rule(input);
        self.carry_out()
    }

    fn rule(&mut self, input: Input) {
        let mut effects = Vec::new();
        let clock = Clock { mono: process::monotonic(), wall: pg::now() };
        self.rules.handle(input, clock, &mut Entries(self.database), &mut effects);
        self.effects.extend(effects);
    }

    /// Does all that the rules ask for, and what they ask for when they learn what came of it.
    fn carry_out(&mut self) -> Result<(), End> {
        while let Some(effect) = self.effects.pop_front() {
            let input = match effect {
                Effect::ReadConfig(changes) => {
                    let read = self.read_config(&changes);
                    Input::Config { changes, read }
                }
                Effect::Open { stream, known } => {
                    Input::Opened { stream, read: self.open(stream, known) }
                }
                Effect::Restore(consumer) => {
                    Input::Restored { consumer, read: self.restore(consumer) }
                }
                Effect::Look { stream, known } => {
                    Input::Looked { stream, read: self.look(stream, known) }
                }
                Effect::ReadRange { consumer, stream, after, upto } => {
                    let read = self.read_range(stream, after, upto);
                    Input::RangeRead { consumer, upto, read }
                }
                Effect::Journal(consumers) => {
                    let written = self.write_journal(&consumers);
                    Input::Journalled { consumers, written }
                }
                Effect::Checkpoint { consumer, checkpoint, dead, replaces, folded_acks } => {
                    let folded = Folded { replaces, acks: &folded_acks };
                    Input::Checkpointed(self.write_checkpoint(consumer, &checkpoint, &dead, folded))
                }
                Effect::Forget(consumers) => {
                    self.forget(consumers);
                    continue;
                }
                Effect::Log(text) => {
                    self.fail(&text);
                    continue;
                }
                Effect::Status(text) => {
                    self.database.dispatcher.set_error(&text);
                    continue;
                }
                Effect::End(end) => return Err(end),
            };
            self.rule(input);
        }
        Ok(())
    }

    /// Remembers and logs what went wrong.
    fn fail(&self, text: &str) {
        self.database.dispatcher.set_error(text);
        pgrx::warning!("sequin dispatcher: {text}");
    }

    /// How long there is nothing to do, unless the latch is set.
    fn pause(&self) -> Duration {
        let now = process::monotonic();
        let next = match self.rules.is_ready() {
            true => self.rules.wake_at().min(self.next_sweep).min(now + HEARTBEAT),
            false => now + RETRY_CONFIG,
        };
        Duration::from_micros(next.saturating_sub(now).max(0).cast_unsigned())
    }

    /// Before this process ends: what has ended by now counts, and everything is written. Requests are left to the next
    /// dispatcher, which takes those that were collected here as asked again.
    fn stop(&mut self) {
        self.rule(Input::Stop);
        entries::hand_over(self.database);
        let mut marked = Vec::new();
        self.database.take_requests(&mut marked);
        let (outcomes, _) = entries::collect(self.database, &marked);
        marked.into_iter().for_each(|session| self.database.notify_request(session));
        self.rule(Input::Outcomes(outcomes));
        self.rule(Input::Flush);
        // It ends in any case: that it is to end keeps nothing from being written.
        while self.carry_out().is_err() {}
    }
}

fn table_of(stream: StreamId) -> Oid {
    Oid::from(stream.0)
}

impl From<TxError> for Failure {
    fn from(TxError { text, is_lock }: TxError) -> Failure {
        Failure::Error { text, is_lock }
    }
}
