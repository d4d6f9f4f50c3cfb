//! All streams and their consumers, and what waits for each.

use super::exchange::Asked;
use super::filling::Fill;
use super::recovery::Recovered;
use super::stored::ConsumerConfig;
use super::waiters::Waiters;
use crate::consumer::Consumer;
use crate::event::Event;
use crate::fault::{Fault, Known};
use crate::ids::{AckRowId, ConsumerId, StreamId};
use crate::key::Seq;
use crate::pending::Consumers;
use crate::settings::Micros;
use crate::stream::Stream;
use std::collections::{BTreeMap, BTreeSet};

/// A stream with a table.
#[derive(Debug, Default)]
pub(super) struct StreamEntry {
    pub name: String,
    /// Made when the first of its consumers is used.
    pub stream: Option<Stream>,
    /// What has been seen of its sequence.
    pub known: Known,
    pub repairs: i32,
    /// Why not all of its messages can be found, if so.
    pub fault: Option<Fault>,
    /// All has been read that was committed, and nobody has published since.
    pub caught_up: bool,
    /// Counts the looks that have read all there was.
    pub looks: u64,
    /// An effect is out that opens it; these wait for it, the latter with a state that goes beyond what is known.
    pub opening: bool,
    pub to_restore: Vec<ConsumerId>,
    pub to_check: Vec<(ConsumerId, Recovered)>,
    /// An effect is out that looks at its tail, and these wait for it.
    pub looking: bool,
    pub readers: Vec<ConsumerId>,
    /// Its table was locked, or unreadable: it is not tried again before this.
    pub retry_at: Micros,
    /// It was unreadable: before this it is not tried even for sessions that ask again and again.
    pub failing_until: Micros,
}

/// A consumer, what waits for it, and what of it is not written yet.
#[derive(Debug)]
pub(super) struct ConsumerEntry {
    pub config: ConsumerConfig,
    /// `None` while its stream has no table.
    pub stream: Option<StreamId>,
    /// Its state has been read from the journals, and its stream has it.
    pub loaded: bool,
    /// An effect is out that reads it, and these requests wait for that.
    pub loading: bool,
    pub asked: Vec<Asked>,
    pub waiting: Waiters,
    /// While waiting sessions are being served.
    pub fill: Option<Fill>,
    /// When its next lease or delay ends, as `timers` has it.
    pub due: Option<Micros>,
    /// Events that are not in the outbox yet.
    pub unwritten: Vec<Event>,
    /// When the oldest of them happened.
    pub unwritten_since: Option<Micros>,
    /// Rows of sequin.acks that have taken effect, and are in no checkpoint yet.
    pub applied: Vec<AckRowId>,
    pub checkpoint: LastCheckpoint,
    pub last_error: Option<String>,
    /// When somebody last asked for it, and when to look whether anybody still does.
    pub used_at: Micros,
    pub check_at: Option<Micros>,
    /// What its state takes, in bytes.
    pub memory: usize,
}

impl ConsumerEntry {
    pub fn new(config: ConsumerConfig) -> ConsumerEntry {
        ConsumerEntry {
            config,
            stream: None,
            loaded: false,
            loading: false,
            asked: Vec::new(),
            waiting: Waiters::default(),
            fill: None,
            due: None,
            unwritten: Vec::new(),
            unwritten_since: None,
            applied: Vec::new(),
            checkpoint: LastCheckpoint::default(),
            last_error: None,
            used_at: 0,
            check_at: None,
            memory: 0,
        }
    }
}

/// The newest checkpoint of a consumer, and what has come since.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastCheckpoint {
    pub id: i64,
    /// When it was written or tried; `None`: one is wanted now.
    pub at: Option<Micros>,
    pub size: usize,
    pub cursor: Seq,
    /// Events in the outbox since.
    pub events: usize,
}

/// What goes by the name of a stream.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// `None` while it has no table.
    pub stream: Option<StreamId>,
    pub consumers: BTreeSet<ConsumerId>,
}

/// All streams and their consumers.
#[derive(Debug, Default)]
pub(super) struct World {
    pub streams: BTreeMap<StreamId, StreamEntry>,
    pub consumers: BTreeMap<ConsumerId, ConsumerEntry>,
    pub names: BTreeMap<String, Named>,
    /// Consumers that something has happened to, and of which no account has been taken yet.
    pub touched: BTreeSet<ConsumerId>,
}

impl World {
    /// A consumer's stream.
    pub fn stream_id(&self, id: ConsumerId) -> Option<StreamId> {
        self.consumers.get(&id)?.stream
    }

    pub fn entry_of(&self, id: ConsumerId) -> Option<&StreamEntry> {
        self.streams.get(&self.stream_id(id)?)
    }

    pub fn entry_of_mut(&mut self, id: ConsumerId) -> Option<&mut StreamEntry> {
        self.streams.get_mut(&self.stream_id(id)?)
    }

    pub fn stream_of(&self, id: ConsumerId) -> Option<&Stream> {
        self.entry_of(id)?.stream.as_ref()
    }

    pub fn stream_of_mut(&mut self, id: ConsumerId) -> Option<&mut Stream> {
        self.entry_of_mut(id)?.stream.as_mut()
    }

    /// Up to where a consumer has been offered rows.
    pub fn cursor(&self, id: ConsumerId) -> Option<Seq> {
        self.stream_of(id)?.cursor(id)
    }

    pub fn stream_named(&self, name: &str) -> Option<StreamId> {
        self.names.get(name)?.stream
    }

    pub fn at_name<R>(&mut self, name: &str, change: impl FnOnce(&mut Named) -> R) {
        let named = self.names.entry(name.into()).or_default();
        change(named);
        if named.stream.is_none() && named.consumers.is_empty() {
            self.names.remove(name);
        }
    }
}

impl Consumers for World {
    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.touched.insert(id);
        self.stream_of_mut(id)?.consumer_mut(id)
    }
}
