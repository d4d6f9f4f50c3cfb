//! A simple dispatcher around `Stream`: it loads consumers when they are first used, collects events after each step,
//! writes them some time later, and folds them into checkpoints.

use super::Checked;
use super::op::SESSIONS;
use super::world::{Checkpoint, Record, World};
use crate::consumer::{Consumer, StepContext};
use crate::consumer_state::{ConsumerState, Hold};
use crate::event::Event;
use crate::ids::{AckRowId, ConsumerId, Ids, RequestId};
use crate::pending::{Consumers, PendingOperations};
use crate::settings::Micros;
use crate::stream::{Found, Stream};
use crate::tail::{Publisher, Reached, ReadPlan};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What the dispatcher keeps of a consumer beside its state.
#[derive(Debug)]
pub struct Loaded {
    pub generation: u32,
    pub unwritten: Vec<Event>,
    applied: Vec<AckRowId>,
}

/// How much one look reads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub ranges: usize,
    pub rows: usize,
    pub visits: usize,
}

impl Limits {
    pub const WIDE: Self = Self { ranges: 100, rows: 100, visits: 1000 };
}

#[derive(Debug)]
pub struct Dispatcher {
    pub ids: Ids,
    pub streams: Streams,
    pub pending: [PendingOperations; SESSIONS],
    pub loaded: BTreeMap<ConsumerId, Loaded>,
    failed: Option<(ReadPlan, Found, Found)>,
}

/// The stream, once the first of its consumers is used.
#[derive(Debug, Default)]
pub struct Streams(pub Option<Stream>);

impl Consumers for Streams {
    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.0.as_mut()?.consumer_mut(id)
    }
}

impl Dispatcher {
    pub fn start(world: &mut World) -> Dispatcher {
        world.epoch += 1;
        Dispatcher {
            ids: Ids::new(world.epoch).unwrap(),
            streams: Streams::default(),
            pending: Default::default(),
            loaded: BTreeMap::new(),
            failed: None,
        }
    }

    pub fn stream(&self) -> Checked<&Stream> {
        self.streams.0.as_ref().ok_or_else(|| TestCaseError::fail("the stream is not open"))
    }

    pub fn stream_mut(&mut self) -> Checked<&mut Stream> {
        self.streams.0.as_mut().ok_or_else(|| TestCaseError::fail("the stream is not open"))
    }

    pub fn consumer(&self, id: ConsumerId) -> Checked<&Consumer> {
        let consumer = self.stream()?.consumer(id);
        consumer.ok_or_else(|| TestCaseError::fail("the consumer is not loaded"))
    }

    pub fn at(&mut self, id: ConsumerId, now: Micros) -> Checked<(&mut Consumer, StepContext<'_>)> {
        let consumer = self.streams.consumer(id);
        let consumer = consumer.ok_or_else(|| TestCaseError::fail("the consumer is not loaded"))?;
        Ok((consumer, StepContext { now, wall_offset: 0, ids: &mut self.ids }))
    }

    /// Reads a consumer's state from its checkpoint and journals; false if it is in memory already.
    pub fn load(&mut self, id: ConsumerId, world: &World, open: &[Publisher]) -> Checked<bool> {
        if self.loaded.contains_key(&id) {
            return Ok(false);
        }
        let row = world.consumer(id)?;
        let config = row.config.clone();
        let start = || Checkpoint {
            id: 0,
            state: ConsumerState::start(config.start, Default::default()),
            open_acks: Vec::new(),
        };
        let Checkpoint { id: written, mut state, open_acks } =
            row.checkpoint.clone().unwrap_or_else(start);
        let mut journal = row.outbox.clone();
        journal.retain(|&id, _| id > written);
        for (id, change) in &row.acks {
            // A real dispatcher reads no other rows.
            prop_assert!(id.0 > written || open_acks.contains(id), "{:?} would be missed", id);
            prop_assert!(journal.insert(id.0, change.clone()).is_none(), "{:?} twice", id);
        }
        journal.into_values().for_each(|change| state.replay(change));
        let stream = self.streams.0.get_or_insert_with(|| Stream::new(world.now.last, open));
        stream.put(id, config.parsed_filters(), config.settings, state);
        let applied = row.acks.keys().copied().collect();
        let loaded = Loaded { generation: config.generation, unwritten: Vec::new(), applied };
        self.loaded.insert(id, loaded);
        Ok(true)
    }

    /// What is of another generation is void.
    pub fn rewind(&mut self, id: ConsumerId, generation: u32) {
        let loaded = Loaded { generation, unwritten: Vec::new(), applied: Vec::new() };
        self.loaded.insert(id, loaded);
    }

    /// Collects the new events, and returns them.
    pub fn collect(&mut self, id: ConsumerId) -> Vec<Event> {
        let events = self.streams.consumer(id).map(Consumer::take_events).unwrap_or_default();
        if let Some(loaded) = self.loaded.get_mut(&id) {
            loaded.unwritten.extend(events.iter().cloned());
        }
        events
    }

    pub fn apply(&mut self, session: usize, now: Micros) {
        let mut context = StepContext { now, wall_offset: 0, ids: &mut self.ids };
        for applied in
            self.pending[session].commit(RequestId(u64::MAX), &mut self.streams, &mut context)
        {
            if let Some(loaded) = self.loaded.get_mut(&applied.consumer) {
                loaded.applied.push(applied.ack_row_id);
            }
        }
    }

    pub fn abort(&mut self, session: usize, from: RequestId, now: Micros) {
        let mut context = StepContext { now, wall_offset: 0, ids: &mut self.ids };
        self.pending[session].abort(from, &mut self.streams, &mut context);
    }

    pub fn write_outbox(&mut self, id: ConsumerId, world: &mut World) {
        let Some(loaded) = self.loaded.get_mut(&id) else { return };
        let mut events = std::mem::take(&mut loaded.unwritten);
        if let Some(consumer) = self.streams.consumer(id) {
            consumer.drop_finished(&mut events);
        }
        let generation = loaded.generation;
        world.write(Record::Outbox { consumer: id, generation, events }, false);
    }

    pub fn checkpoint(&mut self, id: ConsumerId, world: &mut World) -> Checked {
        let Some(loaded) = self.loaded.get_mut(&id) else { return Ok(()) };
        let stream = self.streams.0.as_ref();
        let Some(mut state) = stream.and_then(|stream| stream.state(id)) else {
            return Err(TestCaseError::fail("no state of a consumer"));
        };
        // No table keeps a lease's holder, or that it is pinned.
        for (_, hold) in state.active.values_mut() {
            if let Hold::InFlight(lease) = hold {
                (lease.holder, lease.pinned) = (0, false);
            }
        }
        let rows = self.pending.iter().flat_map(PendingOperations::rows);
        let open_acks = rows.filter(|(consumer, _)| *consumer == id).map(|(_, row)| row).collect();
        let record = Record::Checkpoint {
            consumer: id,
            generation: loaded.generation,
            checkpoint: Checkpoint { id: self.ids.take(1), state, open_acks },
            events: std::mem::take(&mut loaded.unwritten),
            applied: std::mem::take(&mut loaded.applied),
        };
        world.write(record, false);
        Ok(())
    }

    /// A look at the tail. One that fails has no effect, even if its rows arrive after the next look.
    pub fn look(
        &mut self,
        world: &World,
        open: Vec<Publisher>,
        Limits { ranges, rows, visits }: Limits,
        fails: bool,
    ) {
        let Some(stream) = self.streams.0.as_mut() else { return };
        let plan = stream.plan_read(world.now.last, open, ranges);
        if let Some((plan, late, new)) = self.failed.take() {
            stream.apply_read(plan, &late, &new);
        }
        let reached = if rows.is_multiple_of(2) { Reached::End } else { Reached::Nowhere };
        let nothing = Found { rows: Vec::new(), reached };
        let late = match &plan.recheck[..] {
            [] => nothing.clone(),
            holes => world.now.read(holes, rows, visits),
        };
        let new = match plan.scan {
            None => nothing,
            Some((after, upto)) => world.now.read(&[(after + 1, upto)], rows, visits),
        };
        if fails {
            self.failed = Some((plan, late, new));
        } else {
            stream.apply_read(plan, &late, &new);
        }
    }
}
