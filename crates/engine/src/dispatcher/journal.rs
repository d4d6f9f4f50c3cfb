//! Writing down what happened: events to the outbox within a tenth of a second, checkpoints about once a second. All in
//! transactions that commit asynchronously: a crash may lose the last moments, and their messages come early once more.

use super::interface::{Effect, Failure, Shared};
use super::stored::Checkpoint;
use super::world::{ConsumerEntry, LastCheckpoint};
use super::{Dispatcher, Step};
use crate::ack_rows;
use crate::event::{Change, Event, Item};
use crate::ids::{AckRowId, ConsumerId};
use crate::key::Seq;
use crate::settings::Micros;

/// How long an event may stay unwritten: what happens in that time shares one transaction, and what is acked in that time
/// need not be written at all. Shorter than what a crash loses anyhow, with commits that are flushed within 0.2 to 0.6 s
/// (wal_writer_delay).
pub(super) const WRITE_AFTER: Micros = 100_000;

/// When a write that failed is tried again.
pub(super) const RETRY_AFTER: Micros = 200_000;

/// A consumer hands out nothing while it has more unwritten events than that, the oldest for longer than that: an event
/// is some 50 bytes for each of its messages, a few MB in all.
pub(super) const MAX_UNWRITTEN: usize = 20_000;
pub(super) const PATIENCE: Micros = 1_000_000;

/// How often consumers are looked through for checkpoints that are due.
pub(super) const CHECKPOINT_EVERY: Micros = 250_000;

/// The least time between two checkpoints of a consumer.
pub(super) const CHECKPOINT_AFTER: Micros = 1_000_000;

/// The most time, if anything has changed.
pub(super) const CHECKPOINT_AT_LAST: Micros = 60_000_000;

/// Checkpoints written before requests have their turn again: each takes some 0.3 ms (I11).
pub(super) const CHECKPOINTS_PER_STEP: usize = 8;

/// A checkpoint is due once the journal since the last has at least this part of its size: so writing
/// checkpoints costs at most a constant for each event, however much is in flight (I9).
const SIZE_PER_EVENT: usize = 4;

/// A cursor that moved so far without an event, over messages that don't match, is worth a checkpoint.
pub(super) const CURSOR_STEP: Seq = 100_000;

/// What a dead letter says that the dispatcher writes.
pub const MAX_DELIVER_REACHED: &str = "max_deliver reached";

/// A checkpoint that is being written, without its contents.
#[derive(Debug)]
pub(super) struct CheckpointOut {
    consumer: ConsumerId,
    id: i64,
    size: usize,
    cursor: Seq,
    /// Rows of sequin.acks that it contains.
    applied: usize,
}

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

    /// Writes what is due.
    pub(super) fn write_due<S: Shared>(&mut self, s: &mut Step<S>) {
        let now = s.now();
        if self.journalling == 0 && self.next_events().is_some_and(|at| at <= now) {
            self.write_events(s);
        }
        self.checkpoints_left = CHECKPOINTS_PER_STEP;
        let is_done = self.checkpoint_out.is_none() && self.checkpointing.is_empty();
        if is_done && !self.unsaved.is_empty() && self.next_checkpoint <= now {
            self.next_checkpoint = now + CHECKPOINT_EVERY;
            let mut unsaved = std::mem::take(&mut self.unsaved);
            unsaved.retain(|&id| self.has_changed(id));
            self.checkpointing =
                unsaved.iter().copied().filter(|&id| self.is_due(id, now)).collect();
            self.unsaved = unsaved;
        }
        self.write_next_checkpoint(s);
        self.release_held_back(now);
    }

    /// Before the dispatcher ends: everything.
    pub(super) fn flush<S: Shared>(&mut self, s: &mut Step<S>) {
        self.take_account(s);
        self.write_events(s);
        self.checkpointing = self.unsaved.iter().copied().collect();
        self.checkpoints_left = usize::MAX;
        self.write_next_checkpoint(s);
    }

    /// True while so much of a consumer waits to be written that handing out more would only add to it. Each has its own
    /// bound: what keeps one journal from being written, such as dead letters of a locked stream, stops no other (I11).
    pub(super) fn is_behind_with_writing(&self, id: ConsumerId, now: Micros) -> bool {
        self.world.consumers.get(&id).is_some_and(|entry| {
            entry.unwritten.len() > MAX_UNWRITTEN
                && entry.unwritten_since.is_some_and(|since| now - since > PATIENCE)
        })
    }

    /// Consumers that were held back have their turn when their journal is written.
    fn release_held_back(&mut self, now: Micros) {
        let held_back = std::mem::take(&mut self.held_back);
        for id in held_back {
            match self.is_behind_with_writing(id, now) {
                true => self.held_back.insert(id),
                false => self.has_more.insert(id),
            };
        }
    }

    /// Has the next round write a checkpoint of this consumer.
    pub(super) fn save_soon(&mut self, id: ConsumerId) {
        self.unsaved.insert(id);
        self.next_checkpoint = 0;
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.checkpoint.at = None;
        }
    }

    /// All in one transaction, but for those with dead letters: their messages are read from streams, which may be
    /// locked or broken, and that delays no other.
    pub(super) fn write_events<S: Shared>(&mut self, s: &mut Step<S>) {
        self.drop_finished();
        let (dead, rest): (Vec<ConsumerId>, Vec<ConsumerId>) =
            self.unwritten.iter().partition(|&&id| self.dead_letters(id).next().is_some());
        let batches = (!rest.is_empty()).then_some(rest).into_iter();
        let effects = batches.chain(dead.into_iter().map(|id| vec![id])).map(Effect::Journal);
        let before = s.out.len();
        s.out.extend(effects);
        self.journalling = s.out.len() - before;
        self.journal_failed = false;
        if self.journalling == 0 {
            self.unwritten_since = None;
        }
    }

    /// Deliveries that are finished by now need not be written.
    fn drop_finished(&mut self) {
        self.unwritten.retain(|id| {
            let Some(entry) = self.world.consumers.get_mut(id) else { return false };
            let stream = entry.stream.and_then(|id| self.world.streams.get(&id)?.stream.as_ref());
            if let Some(consumer) = stream.and_then(|stream| stream.consumer(*id)) {
                consumer.drop_finished(&mut entry.unwritten);
            }
            if entry.unwritten.is_empty() {
                entry.unwritten_since = None;
            }
            !entry.unwritten.is_empty()
        });
    }

    /// What is to be written of a consumer's events.
    pub fn unwritten(&self, id: ConsumerId) -> &[Event] {
        self.world.consumers.get(&id).map_or(&[], |entry| &entry.unwritten)
    }

    /// Messages that have died, among the unwritten events: copied to the dead letters in the same transaction.
    pub fn dead_letters(&self, id: ConsumerId) -> impl Iterator<Item = Item> {
        self.unwritten(id).iter().filter_map(|event| match event.change {
            Change::Dead { item } => Some(item),
            _ => None,
        })
    }

    pub(super) fn journalled<S: Shared>(
        &mut self,
        consumers: &[ConsumerId],
        written: Result<bool, Failure>,
        s: &mut Step<S>,
    ) {
        self.journal_failed |= written != Ok(true);
        match written {
            Ok(true) => {
                for &id in consumers {
                    if let Some(entry) = self.world.consumers.get_mut(&id) {
                        entry.checkpoint.events += entry.unwritten.len();
                    }
                    self.forget_unwritten(id);
                }
            }
            // Not worth a line in the log: it is somebody's lock.
            Ok(false) => s.out.push(Effect::Status("cannot write the journal: locked".into())),
            Err(failure) => s.out.push(Effect::Log(format!("cannot write the journal: {failure}"))),
        }
        self.journalling = self.journalling.saturating_sub(1);
        if self.journalling == 0 {
            match self.journal_failed {
                true => self.retry_events_at = s.now() + RETRY_AFTER,
                // Something may have happened while they were being written.
                false => self.unwritten_since = self.oldest_unwritten(),
            }
            self.release_held_back(s.now());
        }
    }

    fn oldest_unwritten(&self) -> Option<Micros> {
        let entries = self.unwritten.iter().filter_map(|id| self.world.consumers.get(id));
        entries.filter_map(|entry| entry.unwritten_since).min()
    }

    /// Its events are written, or of no use any more.
    pub(super) fn forget_unwritten(&mut self, id: ConsumerId) {
        if let Some(entry) = self.world.consumers.get_mut(&id) {
            entry.unwritten.clear();
            entry.unwritten_since = None;
        }
        self.unwritten.remove(&id);
    }

    /// Has the next consumer's state written, in place of all that the tables have of it: events that are not written yet
    /// are part of it too, and need not be.
    fn write_next_checkpoint<S: Shared>(&mut self, s: &mut Step<S>) {
        while self.checkpoint_out.is_none()
            && self.checkpoints_left > 0
            && let Some(consumer) = self.checkpointing.pop_front()
        {
            let state = self.world.stream_of(consumer).and_then(|stream| stream.state(consumer));
            let (Some(state), Some(entry)) = (state, self.world.consumers.get(&consumer)) else {
                self.unsaved.remove(&consumer);
                continue;
            };
            self.checkpoints_left -= 1;
            let open_acks = self.open_acks(consumer);
            let (applied, replaces) = (entry.applied.clone(), entry.checkpoint.id);
            let folded_acks = ack_rows::ranges(applied, open_acks.clone(), replaces);
            let (id, generation) = (self.ids.take(1), entry.config.generation);
            self.checkpoint_out = Some(CheckpointOut {
                consumer,
                id,
                size: state.size() + open_acks.len(),
                cursor: self.world.cursor(consumer).unwrap_or(0),
                applied: entry.applied.len(),
            });
            let state = state.shifted(s.clock.wall_offset());
            let checkpoint = Checkpoint { id, generation, state, open_acks };
            let dead = self.dead_letters(consumer).collect();
            s.out.push(Effect::Checkpoint { consumer, checkpoint, dead, replaces, folded_acks });
        }
    }

    /// The rows of sequin.acks that open transactions have written, or will.
    fn open_acks(&self, id: ConsumerId) -> Vec<AckRowId> {
        let rows = self.sessions.iter().flat_map(|session| {
            let granted = session.grant().map(|grant| (grant.consumer, grant.ack_row_id));
            session.pending.rows().chain(granted)
        });
        rows.filter(|&(consumer, _)| consumer == id).map(|(_, row)| row).collect()
    }

    pub(super) fn checkpointed<S: Shared>(
        &mut self,
        written: Result<bool, Failure>,
        s: &mut Step<S>,
    ) {
        let Some(out) = self.checkpoint_out.take() else { return };
        let CheckpointOut { consumer, id, size, cursor, applied } = out;
        let at = Some(s.now());
        if let Some(entry) = self.world.consumers.get_mut(&consumer) {
            entry.checkpoint.at = at;
        }
        match written {
            Ok(true) => {
                if let Some(entry) = self.world.consumers.get_mut(&consumer) {
                    entry.checkpoint = LastCheckpoint { id, at, size, cursor, events: 0 };
                    entry.applied.drain(..applied);
                    // What has happened since it was taken is not part of it.
                    entry.unwritten.retain(|event| event.id > id);
                }
                if self.unwritten(consumer).is_empty() {
                    self.forget_unwritten(consumer);
                }
                if !self.has_changed(consumer) {
                    self.unsaved.remove(&consumer);
                }
            }
            Ok(false) => {}
            Err(failure) => {
                let what = "cannot write a checkpoint";
                self.fail_consumer(consumer, what, &failure.to_string(), s);
                // One that has waited for a lock on the tables is enough: the others would wait as long.
                if failure.is_lock() {
                    self.next_checkpoint = s.now() + CHECKPOINT_AFTER;
                    self.checkpointing.clear();
                }
            }
        }
        self.write_next_checkpoint(s);
    }

    /// Changes since the last checkpoint, and how far the cursor has moved.
    fn changes(&self, id: ConsumerId) -> Option<(usize, Seq)> {
        let entry = self.world.consumers.get(&id)?;
        let ConsumerEntry { checkpoint, unwritten, applied, .. } = entry;
        let changes = checkpoint.events + unwritten.len() + applied.len();
        Some((changes, self.world.cursor(id)? - checkpoint.cursor))
    }

    /// True if a checkpoint would say something new that is worth it: a cursor that has moved a little is not. Of ten
    /// thousand consumers that are used once that would be as many rows.
    pub(super) fn has_changed(&self, id: ConsumerId) -> bool {
        let entry = self.world.consumers.get(&id);
        let is_wanted = entry.is_some_and(|entry| entry.checkpoint.at.is_none());
        is_wanted || self.changes(id).is_some_and(|(n, moved)| n > 0 || moved >= CURSOR_STEP)
    }

    fn is_due(&self, id: ConsumerId, now: Micros) -> bool {
        let Some(entry) = self.world.consumers.get(&id) else { return false };
        let (changes, moved) = self.changes(id).unwrap_or_default();
        let Some(at) = entry.checkpoint.at else { return true };
        let age = now.saturating_sub(at);
        age >= CHECKPOINT_AFTER
            && (changes * SIZE_PER_EVENT >= entry.checkpoint.size.max(1)
                || moved >= CURSOR_STEP
                || age >= CHECKPOINT_AT_LAST)
    }
}
