//! The dispatcher of a database: all state of all consumers, in one process, in memory.
//!
//! A step takes what has come in (changed settings, ends of transactions, requests), gives out what is ready,
//! and writes down what happened. `requests` serves the mailboxes, `waiting` those who want messages, `reports`
//! the views; `reading` reads the streams' tables, `loading` brings consumers in and out, `journal` writes. Nothing here decides who may have which message when: that
//! is `engine`.

mod fast_path;
mod faults;
mod journal;
mod loading;
mod reading;
mod reports;
mod requests;
mod sources;
mod waiters;
mod waiting;

use crate::pg::exec::owners::{self, Owned};
use crate::pg::exec::stream_table::{Fault, Known};
use crate::pg::shared::database::Database;
use crate::pg::shared::session_entry;
use crate::pg::{now, process};
use crate::store::consumers::Config;
use crate::store::{acks, checkpoints};
use fast_path::FastPathGrant;
use pgrx::pg_sys::Oid;
use sequin_engine::consumer::{Consumer, StepContext};
use sequin_engine::event::Event;
use sequin_engine::ids::Ids;
use sequin_engine::pending::{Consumers, PendingOperations};
use sequin_engine::settings::Micros;
use sequin_engine::stream::{ConsumerId, Stream};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use waiters::Waiters;

/// A stream that somebody consumes.
#[derive(Default)]
struct StreamEntry {
    table: Option<Oid>,
    /// Made when the first of its consumers is used.
    stream: Option<Stream>,
    /// Its table was locked, or unreadable: not to be tried before.
    retry_at: Micros,
    /// What has been seen of its sequence.
    known: Known,
    /// How often it has been repaired.
    repairs: i32,
    /// Why not all of its messages can be found, if so.
    fault: Option<Fault>,
    /// It was unreadable: nor is it to be tried before for those who ask again and again.
    failing_until: Micros,
}

/// A consumer, what waits for it, and what of it is not written yet.
struct ConsumerEntry {
    config: Config,
    /// Its state has been read from the journals, and its stream has it.
    loaded: bool,
    waiting: Waiters,
    /// Events that are not in the outbox yet.
    unwritten: Vec<Event>,
    /// When the oldest of them happened.
    unwritten_since: Option<Micros>,
    /// Rows of sequin.acks that have taken effect, and are in no checkpoint yet.
    applied: Vec<i64>,
    checkpoint: LastCheckpoint,
    last_error: Option<String>,
}

/// The newest checkpoint of a consumer, and what has come since.
#[derive(Debug, Clone, Copy, Default)]
struct LastCheckpoint {
    id: i64,
    at: Micros,
    size: usize,
    cursor: i64,
    /// Events in the outbox since.
    events: usize,
}

/// A session with an open transaction, or waiting.
struct Session {
    pid: i32,
    pending: PendingOperations,
    /// What it may finish on its own word.
    fast_path: Option<FastPathGrant>,
    /// Where it waits.
    waits_for: Option<ConsumerId>,
}

/// All streams and their consumers, by id: where claims find them.
#[derive(Default)]
struct World {
    streams: HashMap<String, StreamEntry>,
    consumers: BTreeMap<ConsumerId, ConsumerEntry>,
    /// Consumers that something has happened to in this step.
    touched: BTreeSet<ConsumerId>,
}

impl World {
    /// The table of the stream that a consumer reads.
    fn table_of(&self, id: ConsumerId) -> Option<Oid> {
        self.streams.get(&self.consumers.get(&id)?.config.stream)?.table
    }

    /// Up to where a consumer has been offered rows.
    fn cursor(&self, id: ConsumerId) -> Option<i64> {
        let name = &self.consumers.get(&id)?.config.stream;
        self.streams.get(name)?.stream.as_ref()?.cursor(id)
    }

    fn stream_of(&mut self, id: ConsumerId) -> Option<&mut Stream> {
        let name = &self.consumers.get(&id)?.config.stream;
        self.streams.get_mut(name)?.stream.as_mut()
    }
}

impl Consumers for World {
    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.touched.insert(id);
        self.stream_of(id)?.consumer_mut(id)
    }
}

struct Dispatcher {
    database: &'static Database,
    ids: Ids,
    world: World,
    sessions: HashMap<usize, Session>,
    /// Consumers that sessions wait for.
    waiting_on: BTreeSet<ConsumerId>,
    /// Streams whose publishers wake this process.
    listening: HashSet<Oid>,
    /// Streams of which all has been read that was committed, and that nobody has published to since.
    caught_up: HashSet<Oid>,
    /// No lease or delay ends before.
    next_tick: Micros,
    /// No wait ends before, and no locked table is tried again.
    next_wait: Micros,
    /// The journals were locked: no consumer is to be read from them before. Each would wait for the lock as long.
    retry_loading_at: Micros,
    /// Consumers with something in memory that no checkpoint has.
    unsaved: BTreeSet<ConsumerId>,
    /// When the oldest unwritten event happened; `None` if all is written.
    unwritten_since: Option<Micros>,
    /// They could not be written, and are not to be tried again before.
    retry_events_at: Micros,
    /// Consumers that hand out nothing before their journal is written.
    held_back: BTreeSet<ConsumerId>,
    next_checkpoint: Micros,
    /// Consumers that have had their turn and want to read on.
    has_more: BTreeSet<ConsumerId>,
    config_read: bool,
    /// When entries are to be looked through for those that are nobody's.
    next_sweep: Micros,
    /// Something may have come in without a wake-up.
    look_again: bool,
}

/// Why a dispatcher ends.
enum End {
    /// Asked to, by a signal or to make way: the launcher will start another when it may.
    Asked,
    /// The extension is gone.
    NoExtension,
    /// Its ids are used up, or older than those it found in a restored journal.
    NeedsEpoch,
}

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
        Ok(Some(mut dispatcher)) => {
            database.dispatcher.set_error("");
            match dispatcher.live() {
                End::NoExtension => leave_for_good(database),
                End::Asked | End::NeedsEpoch => dispatcher.stop(),
            }
            database.dispatcher.exited_cleanly();
        }
        Ok(None) => {
            leave_for_good(database);
            database.dispatcher.exited_cleanly();
        }
        Err(error) => {
            database.dispatcher.set_error(&error);
            pgrx::warning!("sequin dispatcher cannot start: {error}");
        }
    }
}

fn leave_for_good(database: &Database) {
    sources::clear_out(database);
    database.want(false);
    // The extension may have been created just now; whoever commits that says so before wanting a dispatcher.
    if database.take_config_changed() {
        database.want(true);
    }
    requests::refuse_all(database);
}

/// Takes over from the predecessor: a new epoch, and the rows that are being committed on its word.
fn start(database: &'static Database) -> Result<Option<Dispatcher>, String> {
    if process::must_end() || session_entry::is_suspended(database.oid()) {
        return Err("asked to end before it had started".into());
    }
    if !process::transaction(|| Ok(crate::pg::exec::catalog::extension().is_some()))? {
        return Ok(None);
    }
    process::transaction(crate::pg::exec::catalog::check_members)?;
    process::set("synchronous_commit", "on");
    let epoch = process::transaction(crate::store::epoch::take)?;
    process::set("synchronous_commit", "off");
    let ids = Ids::new(epoch).ok_or("the epochs of sequin.epoch are used up")?;
    requests::take_over(database);
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
    Ok(Some(Dispatcher {
        database,
        ids,
        world: World::default(),
        sessions: HashMap::new(),
        waiting_on: BTreeSet::new(),
        listening: HashSet::new(),
        caught_up: HashSet::new(),
        next_tick: Micros::MAX,
        next_wait: Micros::MAX,
        retry_loading_at: 0,
        unsaved: BTreeSet::new(),
        unwritten_since: None,
        retry_events_at: 0,
        held_back: BTreeSet::new(),
        next_checkpoint: 0,
        has_more: BTreeSet::new(),
        config_read: false,
        next_sweep: 0,
        look_again: false,
    }))
}

impl Dispatcher {
    fn live(&mut self) -> End {
        let mut entries = Vec::new();
        loop {
            if process::must_end() || session_entry::is_suspended(self.database.oid()) {
                return End::Asked;
            }
            if let Some(end) = self.step(&mut entries) {
                return end;
            }
            if self.ids.nearly_spent() {
                return End::NeedsEpoch;
            }
            let pause = self.pause();
            if !pause.is_zero() {
                process::spin_for_latch();
            }
            process::wait(Some(pause));
        }
    }

    /// One round: everything that has come in, then everything that follows from it.
    fn step(&mut self, entries: &mut Vec<usize>) -> Option<End> {
        if (self.take_config_changed() || !self.config_read)
            && let Some(end) = self.read_config()
        {
            return Some(end);
        }
        if !self.config_read {
            // Nobody can be told whether a consumer exists.
            return None;
        }
        let published = self.database.take_published();
        if !published.is_empty() {
            self.caught_up.retain(|&table| !published.contains(table));
        }
        self.database.take_requests(entries);
        if let Some(end) = self.serve_entries(entries) {
            return Some(end);
        }
        self.tick();
        self.fill_waiting(&published);
        self.after_changes();
        self.write();
        self.sweep_slots();
        self.look_again = self.database.set_waited_for(!self.waiting_on.is_empty());
        None
    }

    /// Ends leases and delays that are due.
    fn tick(&mut self) {
        let now = now();
        if now < self.next_tick {
            return;
        }
        self.revoke_due(now);
        self.next_tick = Micros::MAX;
        let mut moment = StepContext { now, ids: &mut self.ids };
        for stream in self.world.streams.values_mut().filter_map(|state| state.stream.as_mut()) {
            for (id, consumer) in stream.consumers_mut() {
                if consumer.next_due().is_some_and(|due| due <= now) {
                    consumer.tick(&mut moment);
                    self.world.touched.insert(id);
                }
                self.next_tick = self.next_tick.min(consumer.next_due().unwrap_or(Micros::MAX));
            }
        }
    }

    /// Collects events of consumers that something happened to, and learns of their next deadlines.
    fn after_changes(&mut self) {
        for id in std::mem::take(&mut self.world.touched) {
            let Some(stream) = self.world.stream_of(id) else { continue };
            let Some(consumer) = stream.consumer_mut(id) else { continue };
            let due = consumer.next_due();
            let events = consumer.take_events();
            self.next_tick = self.next_tick.min(due.unwrap_or(Micros::MAX));
            self.unsaved.insert(id);
            if !events.is_empty() {
                let since = *self.unwritten_since.get_or_insert_with(now);
                if let Some(state) = self.world.consumers.get_mut(&id) {
                    state.unwritten_since.get_or_insert(since);
                    state.unwritten.extend(events);
                }
            }
        }
    }

    /// How long there is nothing to do, unless the latch is set.
    fn pause(&self) -> Duration {
        if self.look_again || !self.has_more.is_empty() {
            return Duration::ZERO;
        }
        let now = now();
        let rest = if self.config_read { HEARTBEAT } else { RETRY_CONFIG };
        let next = [self.next_tick, self.next_wait, self.next_sweep, now.saturating_add(rest)]
            .into_iter()
            .chain(self.next_write())
            .min()
            .unwrap_or(now);
        Duration::from_micros(next.saturating_sub(now).max(0).cast_unsigned())
    }
}
