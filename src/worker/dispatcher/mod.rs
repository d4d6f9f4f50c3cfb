//! The dispatcher of a database: a loop around its rules, which are `sequin_engine::dispatcher`.
//!
//! A step collects what has come in, hands it to the rules, and carries out the effects that they return. `entries`
//! accesses the sessions' entries in shared memory, `reading` and `writing` the tables, and `sources` makes the
//! launcher run capturers. Nothing here decides which session gets which message when.

mod entries;
mod reading;
mod sources;
mod writing;

use crate::pg::exec::catalog;
use crate::pg::exec::owners::{self, Owned};
use crate::pg::process::{self, TxError};
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::store::{acks, checkpoints, dedup, schedules};
use crate::{guc, pg, store};
use entries::Entries;
use pgrx::pg_sys::Oid;
use sequin_engine::dispatcher::{Clock, Dispatcher, Effect, End, Failure, Input};
use sequin_engine::ids::StreamId;
use sequin_engine::settings::Micros;
use std::collections::VecDeque;
use std::time::Duration;
use writing::Folded;

/// The longest sleep. The rules know when a lease ends, and everything else sets the latch: so this only matters after
/// a lost wake-up, which should not exist.
const HEARTBEAT: Micros = 60_000_000;

/// The dispatcher waits for no lock for long (I10). This limit is for locks on sequin's own tables. For rows that users
/// can lock the dispatcher doesn't wait at all.
const LOCK_TIMEOUT: &str = "200ms";

/// After which time the configuration is read again if that has failed.
const RETRY_CONFIG: Micros = 100_000;

/// Runs until the extension or the server goes away.
pub fn run(database: &'static Database) {
    process::set_defaults();
    process::set("lock_timeout", LOCK_TIMEOUT);
    // The journals are read by index, from the last checkpoint on, so that the dead rows before that are never read
    // (I9). To the planner a table of dead rows is empty, and all plans cost the same.
    process::set_by_index();
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
    // The extension may have been created just now: its commit reports a change before a session asks for a dispatcher.
    if database.has_config_changed() {
        database.take_changes();
        database.set_enabled(true);
    }
    entries::refuse_all(database);
}

/// Takes over from the predecessor: takes a new epoch, and waits for transactions that rely on the predecessor and are
/// committing. `None` if there is no extension here.
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
    // If a lock or a full disk prevents this, the next start tries again.
    let clean_up = || acks::dropped()?.into_iter().try_for_each(checkpoints::forget);
    if let Err(error) = process::transaction(clean_up) {
        pgrx::warning!("sequin dispatcher: cannot clean up after dropped consumers: {error}");
    }
    // pg_upgrade copies the tables, but not the notes about owners.
    let note_owners = || Owned::ALL.into_iter().try_for_each(owners::sync);
    if let Err(error) = process::transaction(note_owners) {
        pgrx::warning!("sequin dispatcher: cannot note who owns consumers and sources: {error}");
    }
    // Shared memory doesn't know what there was to do before the server's start.
    let helpers = || Ok((dedup::has_ids()?, schedules::has_any()));
    match process::transaction(helpers) {
        Ok((has_ids, has_schedules)) => {
            let wanted = [(has_ids, &database.janitor), (has_schedules, &database.scheduler)];
            wanted.into_iter().filter(|(has, _)| *has).for_each(|(_, helper)| helper.want());
        }
        Err(error) => {
            pgrx::warning!("sequin dispatcher: cannot ask for janitor and scheduler: {error}")
        }
    }
    Ok(Some(Worker { database, rules, effects: VecDeque::new(), next_sweep: 0 }))
}

struct Worker {
    database: &'static Database,
    rules: Dispatcher,
    /// Effects that are still to be carried out.
    effects: VecDeque<Effect>,
    /// When to look for replication slots of sources that don't exist.
    next_sweep: Micros,
}

impl Worker {
    /// Runs until the rules say that the dispatcher must end; or until a signal, or a command that needs the database
    /// to itself, asks for it: then it returns `None`.
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
            // Without the configuration, no request can be answered.
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
        // Changes that these requests rely on were committed before they were posted: so they are applied first. If
        // this process ends here, the requests are left to the next dispatcher.
        self.apply_changes()?;
        self.hand_in(Input::Requests(asked))?;
        self.hand_in(Input::Tick)?;
        self.sweep_slots();
        Ok(())
    }

    /// Applies changes of streams and consumers, if there are any.
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

    /// Carries out all effects, and those that the rules return when they get the results.
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

    /// How long to sleep, unless the latch is set.
    fn pause(&self) -> Duration {
        let now = process::monotonic();
        let next = match self.rules.is_ready() {
            true => self.rules.wake_at().min(self.next_sweep).min(now + HEARTBEAT),
            false => now + RETRY_CONFIG,
        };
        Duration::from_micros(next.saturating_sub(now).max(0).cast_unsigned())
    }

    /// Called before this process ends: takes account of all transactions that have ended by now, and writes
    /// everything. Requests are left to the next dispatcher. Those that were collected here are flagged again for it.
    fn stop(&mut self) {
        self.rule(Input::Stop);
        entries::hand_over(self.database);
        let mut marked = Vec::new();
        self.database.take_requests(&mut marked);
        let (outcomes, _) = entries::collect(self.database, &marked);
        marked.into_iter().for_each(|session| self.database.notify_request(session));
        self.rule(Input::Outcomes(outcomes));
        self.rule(Input::Flush);
        // The process ends in any case, so an effect that asks for its end doesn't stop the writing.
        while self.carry_out().is_err() {}
    }
}

fn table_of(stream: StreamId) -> Oid {
    Oid::from(stream.0)
}

impl From<TxError> for Failure {
    fn from(TxError { text, is_lock, .. }: TxError) -> Failure {
        Failure::Error { text, is_lock }
    }
}
