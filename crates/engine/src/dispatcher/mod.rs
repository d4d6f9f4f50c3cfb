//! The rules of a database's dispatcher: which session gets which messages when, which gets an empty answer, what is
//! read, what is written, and what a session may finish without asking.
//!
//! All state is here, in one struct, and all that happens comes in through [`Dispatcher::handle`]. It does no I/O: what
//! is to be read or written goes out as [`Effect`]s, and what came of it comes in as the next [`Input`]. So a test can
//! run it against a simulated server, with whatever order of events it likes.
//!
//! `interface` has inputs and effects, and with `exchange` and `stored` the data that they carry. `world` has all streams
//! and consumers. `requests` serves sessions, `sessions` and `fast_path` know of their transactions, `filling` and
//! `reading` give those who wait what there is, `loading` brings consumers in, `memory` lets them go, `config` applies
//! settings, `journal` writes, `reports` tells the views.

mod config;
mod exchange;
mod fast_path;
mod faults;
mod filling;
mod interface;
mod journal;
mod loading;
mod memory;
mod reading;
mod recovery;
mod reports;
mod requests;
mod sessions;
#[cfg(test)]
mod simulation;
mod stored;
#[cfg(test)]
mod tests;
mod waiters;
mod world;

pub use crate::consumer::{Counts, Delivery, LOOK_AHEAD, Lease};
pub use crate::stream::{Found, Row};
pub use crate::tail::{Publisher, Reached, ReadPlan, settled_upto};
pub use exchange::*;
pub use interface::*;
pub use journal::MAX_DELIVER_REACHED;
pub use recovery::unloaded_stats;
pub use stored::*;

use crate::changes::Changes;
use crate::consumer::StepContext;
use crate::ids::{ConsumerId, Ids, StreamId};
use crate::key::Seq;
use crate::pending::Consumers;
use crate::settings::Micros;
use journal::CheckpointOut;
use memory::Memory;
use sessions::Sessions;
use std::collections::{BTreeSet, VecDeque};
use world::{StreamEntry, World};

/// How long the end of a transaction may stay unnoticed while nobody waits, as ends wake nobody then.
const COLLECT_EVERY: Micros = 1_000_000;

/// What one call of `handle` works with.
struct Step<'a, S> {
    clock: Clock,
    shared: &'a mut S,
    out: &'a mut Vec<Effect>,
}

impl<S> Step<'_, S> {
    fn now(&self) -> Micros {
        self.clock.mono
    }
}

/// See the module.
#[derive(Debug)]
pub struct Dispatcher {
    ids: Ids,
    world: World,
    sessions: Sessions,
    config_read: bool,
    /// Consumers that sessions wait for.
    waited_for: BTreeSet<ConsumerId>,
    /// Of these, those that may have something for them.
    to_fill: BTreeSet<ConsumerId>,
    /// Consumers that have had their turn and want to read on.
    has_more: BTreeSet<ConsumerId>,
    /// Reads that are out.
    reads: usize,
    /// Streams that were published to since the last tick.
    published: BTreeSet<StreamId>,
    /// Streams whose publishers wake the dispatcher.
    listening: BTreeSet<StreamId>,
    /// When the next lease or delay of each consumer ends.
    timers: BTreeSet<(Micros, ConsumerId)>,
    /// Before this no wait ends, and no locked table is tried again. `None`: it has to be found anew.
    next_wait: Option<Micros>,
    /// The journals were locked: no consumer is read from them before this, since each would wait for the lock as long.
    retry_loading_at: Micros,
    memory: Memory,
    /// Consumers with events that are not written.
    unwritten: BTreeSet<ConsumerId>,
    /// When the oldest of these happened.
    unwritten_since: Option<Micros>,
    /// They could not be written. No write is tried again before this.
    retry_events_at: Micros,
    /// Journal effects that are out, and whether one that came back has failed.
    journalling: usize,
    journal_failed: bool,
    /// Consumers that hand out nothing before their journal is written.
    held_back: BTreeSet<ConsumerId>,
    /// Consumers with something in memory that no checkpoint has.
    unsaved: BTreeSet<ConsumerId>,
    next_checkpoint: Micros,
    /// Those whose turn it is, and the one that is being written.
    checkpointing: VecDeque<ConsumerId>,
    checkpoint_out: Option<CheckpointOut>,
    /// How many more may be written in this step.
    checkpoints_left: usize,
    /// Ends of transactions wake this process.
    is_waited_for: bool,
    last_tick: Micros,
    /// Something may have come in without a wake-up.
    look_again: bool,
}

impl Dispatcher {
    /// The dispatcher of this epoch, which no other has; `None` if it is out of range.
    pub fn new(epoch: i64) -> Option<Dispatcher> {
        Some(Dispatcher {
            ids: Ids::new(epoch)?,
            world: World::default(),
            sessions: Sessions::default(),
            config_read: false,
            waited_for: BTreeSet::new(),
            to_fill: BTreeSet::new(),
            has_more: BTreeSet::new(),
            reads: 0,
            published: BTreeSet::new(),
            listening: BTreeSet::new(),
            timers: BTreeSet::new(),
            next_wait: Some(Micros::MAX),
            retry_loading_at: 0,
            memory: Memory::default(),
            unwritten: BTreeSet::new(),
            unwritten_since: None,
            retry_events_at: 0,
            journalling: 0,
            journal_failed: false,
            held_back: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            next_checkpoint: 0,
            checkpointing: VecDeque::new(),
            checkpoint_out: None,
            checkpoints_left: 0,
            is_waited_for: false,
            last_tick: 0,
            look_again: false,
        })
    }

    /// Takes in what has happened, and adds to `out` what is to be done.
    pub fn handle<S: Shared>(
        &mut self,
        input: Input,
        clock: Clock,
        shared: &mut S,
        out: &mut Vec<Effect>,
    ) {
        let s = &mut Step { clock, shared, out };
        match input {
            Input::ConfigChanged => {
                self.revoke_all(s);
                let changes = s.shared.take_changes();
                self.read_config(changes, s);
            }
            Input::Config { changes, read } => self.configure(&changes, read, s),
            Input::Outcomes(outcomes) => {
                // They were collected after ends of transactions had begun to wake this process.
                self.look_again = false;
                outcomes.into_iter().for_each(|outcome| self.settle(outcome, s));
            }
            Input::Requests(asked) => asked.into_iter().for_each(|asked| self.ask(asked, s)),
            Input::Published(streams) => self.note_published(streams),
            Input::Tick => self.tick(s),
            Input::Opened { stream, read } => self.opened(stream, read, s),
            Input::Restored { consumer, read } => self.restored(consumer, read, s),
            Input::Looked { stream, read } => self.looked(stream, read, s),
            Input::RangeRead { consumer, upto, read } => self.range_read(consumer, upto, read, s),
            Input::Journalled { consumers, written } => self.journalled(&consumers, written, s),
            Input::Checkpointed(written) => self.checkpointed(written, s),
            Input::Stop => self.revoke_all(s),
            Input::Flush => self.flush(s),
        }
        if self.ids.nearly_spent() {
            s.out.push(Effect::End(End::NeedsEpoch));
        }
    }

    /// Whether requests can be served. Before the configuration is read, it is not known which consumers exist.
    pub fn is_ready(&self) -> bool {
        self.config_read
    }

    /// When a tick has something to do next, if nothing comes in; a time that is over: at once.
    pub fn wake_at(&self) -> Micros {
        if self.look_again || !self.has_more.is_empty() || !self.checkpointing.is_empty() {
            return 0;
        }
        let timer = self.timers.first().map(|&(due, _)| due);
        let is_open = !self.is_waited_for && !self.sessions.is_empty();
        let collect = is_open.then_some(self.last_tick + COLLECT_EVERY);
        let next = self.next_wait.into_iter().chain(self.next_write()).chain(self.memory.next());
        timer.into_iter().chain(collect).chain(next).min().unwrap_or(0)
    }

    /// The streams for which [`Input::Published`] says something new.
    pub fn watched(&self) -> impl Iterator<Item = StreamId> {
        let is_watched = |(id, entry): &(&StreamId, &StreamEntry)| {
            entry.caught_up || self.listening.contains(id)
        };
        self.world.streams.iter().filter(is_watched).map(|(&id, _)| id)
    }

    /// What a look at a stream's tail is to read, in between [`Effect::Look`] and [`Input::Looked`]: the sequence's last
    /// value was read, then the publishers, by the snapshot that is to be read by.
    pub fn plan_look(
        &mut self,
        stream: StreamId,
        last: Seq,
        open: Vec<Publisher>,
    ) -> Option<ReadPlan> {
        let entry = self.world.streams.get_mut(&stream)?;
        Some(entry.stream.as_mut()?.plan_read(last, open, reading::MAX_RANGES))
    }

    /// A stream's name, for carrying out an effect.
    pub fn stream_name(&self, id: StreamId) -> Option<&str> {
        Some(self.world.streams.get(&id)?.name.as_str())
    }

    /// How a consumer is configured, likewise.
    pub fn config(&self, id: ConsumerId) -> Option<&ConsumerConfig> {
        Some(&self.world.consumers.get(&id)?.config)
    }

    /// A step's time and ids.
    fn context<'a>(ids: &'a mut Ids, clock: Clock) -> StepContext<'a> {
        StepContext { now: clock.mono, wall_offset: clock.wall_offset(), ids }
    }

    /// All that has come in has its consequences: what is due ends, waiting sessions are served, what happened is
    /// written.
    fn tick<S: Shared>(&mut self, s: &mut Step<S>) {
        if !self.config_read {
            return self.read_config(Changes::everything(), s);
        }
        self.last_tick = s.now();
        self.end_due(s);
        self.limit_memory(s);
        self.fill_with_news(s);
        self.write_due(s);
    }

    /// Ends leases and delays that are due.
    fn end_due<S: Shared>(&mut self, s: &mut Step<S>) {
        let now = s.now();
        self.revoke_due(s);
        while let Some(&(due, id)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            if let Some(entry) = self.world.consumers.get_mut(&id) {
                entry.due = None;
            }
            if let Some(consumer) = self.world.consumer(id) {
                consumer.tick(&mut Self::context(&mut self.ids, s.clock));
            }
        }
    }

    /// Takes account of what has happened to consumers.
    fn take_account<S: Shared>(&mut self, s: &mut Step<S>) {
        std::mem::take(&mut self.world.touched).into_iter().for_each(|id| self.account(id, s));
    }

    /// Takes account of what has happened to a consumer: its events, when something of it is due next, and how much memory
    /// it takes.
    fn account<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        let stream = entry.stream.and_then(|stream| self.world.streams.get_mut(&stream));
        let Some(stream) = stream.and_then(|stream| stream.stream.as_mut()) else { return };
        let Some(consumer) = stream.consumer_mut(id) else { return };
        let due = consumer.next_due();
        if due != entry.due {
            entry.due.map(|before| self.timers.remove(&(before, id)));
            due.map(|due| self.timers.insert((due, id)));
            entry.due = due;
        }
        self.memory.account(&mut entry.memory, consumer);
        self.unsaved.insert(id);
        let events = consumer.take_events();
        if !events.is_empty() {
            self.unwritten_since.get_or_insert(s.now());
            entry.unwritten_since.get_or_insert(s.now());
            entry.unwritten.extend(events);
            self.unwritten.insert(id);
        }
    }
}
