//! What outlives the dispatcher: the tables, and the log of changes to them, which a power cut may truncate.

use super::Checked;
use crate::ack_rows;
use crate::consumer_state::ConsumerState;
use crate::event::{Change, Event};
use crate::filter::Filter;
use crate::ids::{AckRowId, ConsumerId};
use crate::key::Seq;
use crate::settings::Settings;
use crate::stream::{Found, Row};
use crate::tail::Reached;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub const KEYS: [&str; 6] = ["a.x", "a.y", "a.y.z", "b.x", "b.y", "c"];

const FILTERS: [&[&str]; 5] = [&[">"], &["a.*"], &["a.>", "b.x"], &["*.x", "c"], &["b.>"]];

/// A message whose transaction has committed.
#[derive(Debug, Clone)]
pub struct Message {
    pub key: &'static str,
    /// When its transaction began to publish.
    pub begun: u64,
    /// Retention has taken it out of the stream's table.
    pub removed: bool,
}

/// A row of acks.
#[derive(Debug, Clone)]
pub struct Ack {
    pub consumer: ConsumerId,
    pub generation: u32,
    pub id: AckRowId,
    pub change: Change,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub generation: u32,
    pub start: Seq,
    pub filters: usize,
    pub settings: Settings,
}

impl Config {
    pub fn parsed_filters(&self) -> Vec<Filter> {
        FILTERS[self.filters % FILTERS.len()].iter().map(|f| Filter::parse(f).unwrap()).collect()
    }

    pub fn matches(&self, key: &str) -> bool {
        // Written in another way than the engine's matching.
        match self.filters % FILTERS.len() {
            0 => true,
            1 => key == "a.x" || key == "a.y",
            2 => key.starts_with("a.") || key == "b.x",
            3 => key == "a.x" || key == "b.x" || key == "c",
            _ => key.starts_with("b."),
        }
    }
}

/// The newest row of checkpoints.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub id: i64,
    pub state: ConsumerState,
    /// Rows of acks with a lower id whose transactions were open.
    pub open_acks: Vec<AckRowId>,
}

/// What the tables have of a consumer.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub config: Config,
    pub checkpoint: Option<Checkpoint>,
    pub outbox: BTreeMap<i64, Change>,
    pub acks: BTreeMap<AckRowId, Change>,
    /// All events that the outbox, acks or checkpoints ever had. This is no table: the reference is made of it after a
    /// restart.
    pub history: BTreeMap<i64, Change>,
}

#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// The last value of the stream's sequence.
    pub last: Seq,
    pub messages: BTreeMap<Seq, Message>,
    pub consumers: BTreeMap<ConsumerId, Consumer>,
}

/// What one transaction changes, which happens as a whole or not at all.
#[derive(Debug, Clone)]
pub enum Record {
    /// nextval() is not transactional.
    Sequence(Seq),
    Commit {
        messages: Vec<(Seq, Message)>,
        acks: Vec<Ack>,
    },
    Configure(ConsumerId, Config),
    Outbox {
        consumer: ConsumerId,
        generation: u32,
        events: Vec<Event>,
    },
    Checkpoint {
        consumer: ConsumerId,
        generation: u32,
        checkpoint: Checkpoint,
        /// Events it contains that were never in the outbox.
        events: Vec<Event>,
        /// Rows of acks it contains.
        applied: Vec<AckRowId>,
    },
    Remove {
        upto: Seq,
    },
}

impl Tables {
    fn apply(&mut self, record: &Record) {
        match record.clone() {
            Record::Sequence(last) => self.last = last,
            Record::Commit { messages, acks } => {
                self.messages.extend(messages);
                for ack in acks {
                    if let Some(consumer) = self.of_generation(ack.consumer, ack.generation) {
                        consumer.acks.insert(ack.id, ack.change.clone());
                        consumer.history.insert(ack.id.0, ack.change);
                    }
                }
            }
            Record::Configure(id, config) => {
                let old = self.consumers.remove(&id);
                let same = old.filter(|old| old.config.generation == config.generation);
                let new = match same {
                    Some(old) => Consumer { config, ..old },
                    None => Consumer {
                        config,
                        checkpoint: None,
                        outbox: BTreeMap::new(),
                        acks: BTreeMap::new(),
                        history: BTreeMap::new(),
                    },
                };
                self.consumers.insert(id, new);
            }
            Record::Outbox { consumer, generation, events } => {
                if let Some(consumer) = self.of_generation(consumer, generation) {
                    consumer.outbox.extend(events.iter().map(|e| (e.id, e.change.clone())));
                    consumer.history.extend(events.into_iter().map(|e| (e.id, e.change)));
                }
            }
            Record::Checkpoint { consumer, generation, checkpoint, events, applied } => {
                if let Some(consumer) = self.of_generation(consumer, generation) {
                    consumer.outbox = consumer.outbox.split_off(&checkpoint.id);
                    let after = consumer.checkpoint.as_ref().map_or(0, |old| old.id);
                    for (lo, hi) in ack_rows::ranges(applied, checkpoint.open_acks.clone(), after) {
                        consumer.acks.retain(|row, _| !(lo..=hi).contains(row));
                    }
                    consumer.checkpoint = Some(checkpoint);
                    consumer.history.extend(events.into_iter().map(|e| (e.id, e.change)));
                }
            }
            Record::Remove { upto } => {
                self.messages.range_mut(..=upto).for_each(|(_, m)| m.removed = true);
            }
        }
    }

    fn of_generation(&mut self, id: ConsumerId, generation: u32) -> Option<&mut Consumer> {
        self.consumers.get_mut(&id).filter(|consumer| consumer.config.generation == generation)
    }

    /// The rows of the stream's table in `ranges`, at most `limit`, and not of more seqs than `visits`.
    pub fn read(&self, ranges: &[(Seq, Seq)], limit: usize, visits: usize) -> Found {
        if visits == 0 {
            return Found { rows: Vec::new(), reached: Reached::Nowhere };
        }
        let seqs = ranges.iter().flat_map(|&(lo, hi)| lo..=hi);
        let mut rows: Vec<Row> = Vec::new();
        for (visited, seq) in seqs.enumerate() {
            if rows.len() == limit || visited == visits {
                return Found { rows, reached: Reached::UpTo(seq - 1) };
            }
            if let Some(message) = self.messages.get(&seq).filter(|message| !message.removed) {
                rows.push(Row { seq, key: message.key.into() });
            }
        }
        Found { rows, reached: Reached::End }
    }
}

/// The tables as sessions see them, and as they are on disk.
#[derive(Debug, Default)]
pub struct World {
    pub now: Tables,
    on_disk: Tables,
    unsynced: Vec<Record>,
    /// How many dispatchers there have been. Flushed before it is used.
    pub epoch: i64,
}

impl World {
    /// Commits a transaction. The log is written in order, so flushing this record flushes all before it.
    pub fn write(&mut self, record: Record, synced: bool) {
        self.now.apply(&record);
        self.unsynced.push(record);
        if synced {
            self.sync(self.unsynced.len());
        }
    }

    /// A power cut: only a part of what was not flushed is still there.
    pub fn cut_power(&mut self, kept: usize) {
        self.sync(kept % (self.unsynced.len() + 1));
        self.unsynced.clear();
        self.now = self.on_disk.clone();
    }

    fn sync(&mut self, records: usize) {
        for record in self.unsynced.drain(..records) {
            self.on_disk.apply(&record);
        }
    }

    /// Checks that no seq is given twice.
    pub fn watch_commit(&self, seq: Seq, message: &Message) -> Checked {
        let other = self.now.messages.get(&seq);
        prop_assert!(other.is_none(), "{} is taken: {:?}, {:?}", seq, other, message);
        Ok(())
    }

    pub fn consumer(&self, id: ConsumerId) -> Checked<&Consumer> {
        self.now.consumers.get(&id).ok_or_else(|| TestCaseError::fail("no such consumer"))
    }

    pub fn config(&self, id: ConsumerId) -> Checked<Config> {
        self.consumer(id).map(|consumer| consumer.config.clone())
    }
}
