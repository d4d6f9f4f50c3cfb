//! Writing down what happened: events to the outbox within a tenth of a second, checkpoints about once a second.
//! All in transactions that commit asynchronously: a crash may lose the last moments, and their messages come
//! early once more.

use super::requests;
use super::{ConsumerEntry, Dispatcher, LOCK_TIMEOUT, LastCheckpoint, World};
use crate::error::Result;
use crate::pg::process::TxError;
use crate::pg::{now, process};
use crate::store::checkpoints::Checkpoint;
use crate::store::messages::{self, Table};
use crate::store::{acks, checkpoints, dead_letters, outbox};
use sequin_engine::ack_rows;
use sequin_engine::event::{Change, Event, Item};
use sequin_engine::settings::Micros;
use sequin_engine::stream::ConsumerId;
use std::collections::{BTreeSet, HashMap};

/// How long an event may stay unwritten: what happens in that time shares one transaction, and what is acked in that time
/// need not be written at all. Shorter than what a crash loses anyhow, with commits that are flushed within 0.2 to 0.6 s
/// (wal_writer_delay).
const WRITE_AFTER: Micros = 100_000;

/// When a write that failed is tried again.
const RETRY_AFTER: Micros = 200_000;

/// How often consumers are looked through for checkpoints that are due.
const CHECKPOINT_EVERY: Micros = 250_000;

/// The least time between two checkpoints of a consumer.
const CHECKPOINT_AFTER: Micros = 1_000_000;

/// The most time, if anything has changed.
const CHECKPOINT_AT_LAST: Micros = 60_000_000;

/// A checkpoint is due once the journal since the last has at least this part of its size: so writing
/// checkpoints costs at most a constant for each event, however much is in flight (I9).
const SIZE_PER_EVENT: usize = 4;

/// A cursor that moved so far without an event, over messages that don't match, is worth a checkpoint.
const CURSOR_STEP: i64 = 100_000;

const MAX_DELIVER: &str = "max_deliver reached";

impl Dispatcher {
    /// When something is to be written next.
    pub(super) fn next_write(&self) -> Option<Micros> {
        let checkpoint = (!self.unsaved.is_empty()).then_some(self.next_checkpoint);
        self.next_events().into_iter().chain(checkpoint).min()
    }

    /// When events are to be written next.
    fn next_events(&self) -> Option<Micros> {
        self.unwritten_since.map(|since| (since + WRITE_AFTER).max(self.retry_events_at))
    }

    /// Writes what is due. Consumers that were held back have their turn when their journal is written.
    pub(super) fn write(&mut self) {
        self.write_due();
        let held_back = std::mem::take(&mut self.held_back).into_iter();
        let (still, free) = held_back.partition(|&id| self.is_behind_with_writing(id));
        self.held_back = still;
        self.has_more.extend::<BTreeSet<ConsumerId>>(free);
    }

    fn write_due(&mut self) {
        let now = now();
        if self.next_events().is_some_and(|at| at <= now) {
            self.write_events();
        }
        if !self.unsaved.is_empty() && self.next_checkpoint <= now {
            self.next_checkpoint = now + CHECKPOINT_EVERY;
            let world = &self.world;
            self.unsaved.retain(|&id| world.has_changed(id));
            let due: Vec<ConsumerId> =
                self.unsaved.iter().copied().filter(|&id| self.world.is_due(id, now)).collect();
            if !due.is_empty() {
                self.write_checkpoints(&due);
            }
        }
    }

    /// True while so much of a consumer waits to be written that handing out more would only add to it. Each has its own
    /// bound: what keeps one journal from being written, such as dead letters of a locked stream, stops no other (I11).
    pub(super) fn is_behind_with_writing(&self, id: ConsumerId) -> bool {
        /// An event is some 50 bytes for each of its messages: a few MB.
        const MAX_UNWRITTEN: usize = 20_000;
        const PATIENCE: Micros = 1_000_000;
        self.world.consumers.get(&id).is_some_and(|state| {
            state.unwritten.len() > MAX_UNWRITTEN
                && state.unwritten_since.is_some_and(|since| now() - since > PATIENCE)
        })
    }

    /// Before this process ends: everything.
    pub(super) fn stop(&mut self) {
        self.revoke_all();
        requests::hand_over(self.database);
        self.settle_last();
        self.after_changes();
        self.write_events();
        let all: Vec<ConsumerId> = self.unsaved.iter().copied().collect();
        self.write_checkpoints(&all);
    }

    /// Has the next round write a checkpoint of this consumer.
    pub(super) fn save_soon(&mut self, id: ConsumerId) {
        self.unsaved.insert(id);
        self.next_checkpoint = 0;
        if let Some(state) = self.world.consumers.get_mut(&id) {
            state.checkpoint.at = 0;
        }
    }

    /// All in one transaction, but for those with dead letters: their messages are read from streams, which may be
    /// locked or broken, and that delays no other.
    fn write_events(&mut self) {
        self.world.drop_finished();
        let consumers = &self.world.consumers;
        let (to_bury, rest): (Vec<ConsumerId>, Vec<ConsumerId>) = (consumers.iter())
            .filter(|(_, state)| !state.unwritten.is_empty())
            .map(|(&id, _)| id)
            .partition(|id| consumers.get(id).is_some_and(|state| !dead(state).is_empty()));
        let mut all = self.write_events_of(&rest);
        for id in to_bury {
            all &= self.write_events_of(&[id]);
        }
        match all {
            true => self.unwritten_since = None,
            false => self.retry_events_at = now() + RETRY_AFTER,
        }
    }

    /// Writes the events of these consumers, or none of them; false then.
    fn write_events_of(&mut self, ids: &[ConsumerId]) -> bool {
        if ids.is_empty() {
            return true;
        }
        let consumers = &self.world.consumers;
        let buries =
            ids.iter().filter_map(|id| consumers.get(id)).any(|state| !dead(state).is_empty());
        let written = transaction(buries, || {
            for state in ids.iter().filter_map(|id| consumers.get(id)) {
                if !write_events_of(state)? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let is_written = matches!(written, Ok(true));
        match written {
            Ok(true) => {
                for id in ids {
                    let Some(state) = self.world.consumers.get_mut(id) else { continue };
                    state.checkpoint.events += state.unwritten.len();
                    state.forget_unwritten();
                }
            }
            // Not worth a line in the log: it is somebody's lock.
            Ok(false) => self.database.dispatcher.set_error("cannot write the journal: locked"),
            Err(failure) => self.fail("cannot write the journal", &failure.text),
        }
        is_written
    }

    /// Each in a transaction of its own: a failure of one delays no other. But one that has waited for a lock on the
    /// tables is enough: the others would wait as long.
    fn write_checkpoints(&mut self, ids: &[ConsumerId]) {
        let mut open_acks = self.open_acks();
        for &id in ids {
            let cursor = self.world.cursor(id).unwrap_or(0);
            let saved = self.world.stream_of(id).and_then(|stream| stream.state(id));
            let (Some(saved), Some(state)) = (saved, self.world.consumers.get_mut(&id)) else {
                self.unsaved.remove(&id);
                continue;
            };
            let checkpoint = Checkpoint {
                id: self.ids.take(1),
                generation: state.config.generation,
                state: saved,
                open_acks: open_acks.remove(&id).unwrap_or_default(),
            };
            let buries = !dead(state).is_empty();
            let written = transaction(buries, || write_checkpoint(state, &checkpoint));
            state.checkpoint.at = now();
            match written {
                Ok(true) => {
                    state.checkpoint = LastCheckpoint {
                        id: checkpoint.id,
                        at: now(),
                        size: checkpoint.state.size() + checkpoint.open_acks.len(),
                        cursor,
                        events: 0,
                    };
                    state.forget_unwritten();
                    state.applied.clear();
                    self.unsaved.remove(&id);
                }
                Ok(false) => {}
                Err(failure) => {
                    self.fail_consumer(id, "cannot write a checkpoint", &failure.text);
                    if failure.is_lock {
                        self.next_checkpoint = now() + CHECKPOINT_AFTER;
                        return;
                    }
                }
            }
        }
    }

    /// The rows of sequin.acks that open transactions have written, or will.
    fn open_acks(&self) -> HashMap<ConsumerId, Vec<i64>> {
        let mut open: HashMap<ConsumerId, Vec<i64>> = HashMap::new();
        for session in self.sessions.values() {
            let fast_path =
                session.fast_path.iter().map(|lease| (lease.consumer, lease.ack_row_id));
            for (id, ack_row_id) in session.pending.rows().chain(fast_path) {
                open.entry(id).or_default().push(ack_row_id);
            }
        }
        open
    }
}

impl ConsumerEntry {
    /// It is written, or of no use any more.
    pub(super) fn forget_unwritten(&mut self) {
        self.unwritten.clear();
        self.unwritten_since = None;
    }
}

impl World {
    fn drop_finished(&mut self) {
        let unwritten = self.consumers.iter_mut().filter(|(_, state)| !state.unwritten.is_empty());
        for (&id, state) in unwritten {
            let stream = self.streams.get(&state.config.stream).and_then(|s| s.stream.as_ref());
            if let Some(consumer) = stream.and_then(|stream| stream.consumer(id)) {
                consumer.drop_finished(&mut state.unwritten);
            }
        }
    }

    /// Changes since the last checkpoint, and how far the cursor has moved.
    fn changes(&self, id: ConsumerId) -> Option<(usize, i64)> {
        let state = self.consumers.get(&id)?;
        let changes = state.checkpoint.events + state.unwritten.len() + state.applied.len();
        Some((changes, self.cursor(id)? - state.checkpoint.cursor))
    }

    /// True if a checkpoint would say something new.
    fn has_changed(&self, id: ConsumerId) -> bool {
        let is_forced = self.consumers.get(&id).is_some_and(|state| state.checkpoint.at == 0);
        is_forced || self.changes(id).is_some_and(|changes| changes != (0, 0))
    }

    fn is_due(&self, id: ConsumerId, now: Micros) -> bool {
        let Some(state) = self.consumers.get(&id) else { return false };
        let (changes, moved) = self.changes(id).unwrap_or_default();
        let age = now.saturating_sub(state.checkpoint.at);
        age >= CHECKPOINT_AFTER
            && (changes * SIZE_PER_EVENT >= state.checkpoint.size.max(1)
                || moved >= CURSOR_STEP
                || age >= CHECKPOINT_AT_LAST)
    }
}

/// A transaction of the journal, for one consumer or several. Of dead letters users can lock the rows: with such among what
/// is written it waits for nobody, and is false if it would have to. `bury` looks for locked rows before; what others are
/// inserting can't be seen, only met.
fn transaction(
    buries: bool,
    write: impl FnOnce() -> Result<bool>,
) -> std::result::Result<bool, TxError> {
    if !buries {
        return process::try_transaction(write);
    }
    process::set("lock_timeout", "1ms");
    let written = process::try_transaction(write);
    process::set("lock_timeout", LOCK_TIMEOUT);
    match written {
        Err(failure) if failure.is_lock => Ok(false),
        written => written,
    }
}

/// False if that has to wait, as `bury` says.
fn write_events_of(state: &ConsumerEntry) -> Result<bool> {
    if !bury(state)? {
        return Ok(false);
    }
    outbox::insert(state.config.id, state.config.generation, &state.unwritten)?;
    Ok(true)
}

/// Messages that have died, among the unwritten events.
fn dead(state: &ConsumerEntry) -> Vec<Item> {
    let item = |event: &Event| match event.change {
        Change::Dead { item } => Some(item),
        _ => None,
    };
    state.unwritten.iter().filter_map(item).collect()
}

/// Copies the dead to the dead letters, while they are still in the stream. False if that is locked, or a row that it takes:
/// this process waits for nobody.
fn bury(state: &ConsumerEntry) -> Result<bool> {
    let (dead, config) = (dead(state), &state.config);
    if dead.is_empty() {
        return Ok(true);
    }
    match messages::try_lock(&config.stream) {
        Table::Busy => Ok(false),
        Table::Missing => Ok(true),
        Table::Locked(_) => {
            if !dead_letters::try_lock(&config.name, &dead)? {
                return Ok(false);
            }
            dead_letters::bury(&config.name, &config.stream, &dead, Some(MAX_DELIVER))
                .map(|()| true)
        }
    }
}

/// The state, in place of all that the journals have of it. Events that are not written yet are part of it
/// too, and need not be. False if that has to wait, as `bury` says.
fn write_checkpoint(state: &ConsumerEntry, new: &Checkpoint) -> Result<bool> {
    let (id, old) = (state.config.id, state.checkpoint.id);
    if !bury(state)? {
        return Ok(false);
    }
    checkpoints::insert(id, new)?;
    if old != 0 {
        checkpoints::delete(id, old)?;
    }
    outbox::delete(id, old, new.id)?;
    acks::delete(id, &ack_rows::ranges(state.applied.clone(), new.open_acks.clone(), old))?;
    Ok(true)
}
