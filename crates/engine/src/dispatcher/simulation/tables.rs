//! What the tables of a database have, as everybody sees it and as it is on disk.

use super::super::stored::{AckRow, Checkpoint, Config, ConsumerConfig, Journal, StreamConfig};
use crate::changes::Changes;
use crate::event::{Change, Event};
use crate::filter::Filter;
use crate::ids::{AckRowId, ConsumerId, Generation, StreamId};
use crate::key::Seq;
use crate::stream::{Found, Row};
use crate::tail::Reached;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A message whose transaction has committed.
#[derive(Debug, Clone)]
pub struct Message {
    pub key: &'static str,
    /// It is no more in the stream's table: it was deleted, or another one of its key has replaced it.
    pub removed: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Stream {
    pub name: String,
    /// The last value of its sequence.
    pub last: Seq,
    pub messages: BTreeMap<Seq, Message>,
}

/// What the tables have of a consumer.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub config: ConsumerConfig,
    pub checkpoint: Option<Checkpoint>,
    pub outbox: BTreeMap<i64, (Generation, Change)>,
    pub acks: BTreeMap<AckRowId, AckRow>,
    /// All that is finished since it was made or rewound. No table: what must hold is told by this.
    pub done: BTreeSet<Seq>,
    /// Of these it is open whether they are delivered: other filters were set, or they were redelivered.
    pub open: BTreeSet<Seq>,
}

impl Consumer {
    pub fn new(config: ConsumerConfig) -> Consumer {
        Consumer {
            config,
            checkpoint: None,
            outbox: BTreeMap::new(),
            acks: BTreeMap::new(),
            done: BTreeSet::new(),
            open: BTreeSet::new(),
        }
    }

    pub fn matches(&self, key: &str) -> bool {
        let filters = &self.config.filters;
        filters.iter().any(|filter| Filter::parse(filter).unwrap().matches(key))
    }
}

#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub streams: BTreeMap<StreamId, Stream>,
    pub consumers: BTreeMap<ConsumerId, Consumer>,
    /// Counts dispatchers.
    pub epoch: i64,
}

impl Tables {
    /// Of what has changed, what there is.
    pub fn config(&self, changes: &Changes) -> Config {
        let (streams, consumers) = (changes.streams(), changes.consumers());
        let stream = |(&id, stream): (&StreamId, &Stream)| StreamConfig {
            name: stream.name.clone(),
            id,
            repairs: 0,
        };
        let is_read = |(id, _): &(&StreamId, &Stream)| {
            streams.as_ref().is_none_or(|these| these.contains(id))
        };
        let is_wanted = |(id, _): &(&ConsumerId, &Consumer)| {
            consumers.as_ref().is_none_or(|these| these.contains(id))
        };
        let wanted = self.consumers.iter().filter(is_wanted);
        Config {
            streams: self.streams.iter().filter(is_read).map(stream).collect(),
            consumers: wanted.map(|(_, consumer)| consumer.config.clone()).collect(),
        }
    }

    pub fn stream_of(&self, consumer: &Consumer) -> Option<(StreamId, &Stream)> {
        let named = |(_, stream): &(&StreamId, &Stream)| stream.name == consumer.config.stream;
        self.streams.iter().find(named).map(|(&id, stream)| (id, stream))
    }

    /// The rows of a stream in `ranges`, at most `limit`, and not of more seqs than `visits`.
    pub fn read(&self, id: StreamId, ranges: &[(Seq, Seq)], limit: usize, visits: usize) -> Found {
        let mut rows = Vec::new();
        let messages = &self.streams[&id].messages;
        let seqs = ranges.iter().flat_map(|&(lo, hi)| lo..=hi);
        for (visited, seq) in seqs.enumerate() {
            if rows.len() == limit || visited == visits {
                let reached = if visited == 0 { Reached::Nowhere } else { Reached::UpTo(seq - 1) };
                return Found { rows, reached };
            }
            if let Some(message) = messages.get(&seq).filter(|message| !message.removed) {
                rows.push(Row { seq, key: message.key.into() });
            }
        }
        Found { rows, reached: Reached::End }
    }

    /// What a dispatcher reads of a consumer.
    pub fn journal(&self, id: ConsumerId) -> Journal {
        let Some(consumer) = self.consumers.get(&id) else { return Journal::default() };
        let after = consumer.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.id);
        let open = consumer.checkpoint.iter().flat_map(|checkpoint| &checkpoint.open_acks);
        let generation = consumer.config.generation;
        Journal {
            checkpoint: consumer.checkpoint.clone(),
            events: (consumer.outbox.range(after + 1..))
                .filter(|(_, (of, _))| *of == generation)
                .map(|(&id, (_, change))| Event { id, change: change.clone() })
                .collect(),
            acks: open
                .filter_map(|id| consumer.acks.get(id))
                .chain(consumer.acks.range(AckRowId(after + 1)..).map(|(_, row)| row))
                .cloned()
                .collect(),
        }
    }

    /// A row of sequin.acks is committed.
    pub fn ack(&mut self, id: ConsumerId, row: &AckRow) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.acks.insert(row.id, row.clone());
        if row.generation != consumer.config.generation {
            return;
        }
        match &row.change {
            Change::Redelivered { seqs } => {
                for seq in seqs {
                    consumer.done.remove(seq);
                    consumer.open.insert(*seq);
                }
            }
            Change::Finished { seqs } => consumer.done.extend(seqs),
            _ => {}
        }
    }
}

type Logged = Rc<dyn Fn(&mut Tables)>;

/// The tables, and the log of changes to them that a power cut may cut short.
#[derive(Default)]
pub struct Storage {
    pub now: Tables,
    on_disk: Tables,
    unsynced: Vec<Logged>,
}

impl Storage {
    /// Commits. The log is written in order, so flushing it flushes all before too.
    pub fn write(&mut self, synced: bool, change: impl Fn(&mut Tables) + 'static) {
        change(&mut self.now);
        self.unsynced.push(Rc::new(change));
        if synced {
            self.sync(self.unsynced.len());
        }
    }

    /// The power fails: only some of what was not flushed is found again.
    pub fn cut_power(&mut self, kept: usize) {
        self.sync(kept % (self.unsynced.len() + 1));
        self.unsynced.clear();
        self.now = self.on_disk.clone();
    }

    fn sync(&mut self, changes: usize) {
        for change in self.unsynced.drain(..changes) {
            change(&mut self.on_disk);
        }
    }
}
