//! Bringing consumers in: settings from the tables, and a consumer's state from its checkpoint and journals
//! the first time that somebody uses it.

use super::faults::max_delivered;
use super::reading::RETRY_LOCKED;
use super::waiters::Waiters;
use super::{ConsumerEntry, Dispatcher, End, LastCheckpoint, StreamEntry, World};
use crate::error::{Error, Result};
use crate::pg::exec::catalog;
use crate::pg::exec::stream_table::{Fault, Known};
use crate::pg::shared::mailbox::Answer;
use crate::pg::shared::session_entry;
use crate::pg::{now, process};
use crate::store::acks::Kind;
use crate::store::consumers::Config;
use crate::store::streams::{self, Listed, Tail};
use crate::store::{acks, checkpoints, consumers, outbox, sources};
use pgrx::pg_sys::Oid;
use sequin_engine::consumer_state::ConsumerState;
use sequin_engine::event::Change;
use sequin_engine::filter::Filter;
use sequin_engine::stream::{ConsumerId, Stream};
use std::collections::{BTreeMap, HashSet};

/// What the journals say of a consumer.
struct Restored {
    saved: ConsumerState,
    checkpoint: LastCheckpoint,
    /// Rows of sequin.acks that the snapshot contains now, and those of earlier generations, which count no more.
    applied: Vec<i64>,
    /// The highest id seen.
    highest: i64,
}

/// Why a consumer can't be used now.
pub(super) enum NotLoaded {
    /// There is none, as far as is committed.
    Unknown,
    /// Later, perhaps: its table is locked, or something failed.
    NotNow,
    /// Not all messages of its stream can be found.
    Damaged(Fault),
    /// Its journal is from a later epoch than this dispatcher: from a dump that was restored meanwhile.
    EpochBehind,
}

impl Dispatcher {
    /// Reads streams and consumers again, and applies what has changed.
    pub(super) fn read_config(&mut self) -> Option<End> {
        let read = process::transaction(|| {
            if catalog::extension().is_none() {
                return Ok(None);
            }
            Ok(Some((streams::list()?, consumers::list()?, sources::list()?)))
        });
        match read {
            Ok(Some((streams, consumers, sources))) => {
                self.config_read = true;
                self.world.keep_streams(&streams);
                let is_known =
                    |table: &Oid| streams.iter().any(|known| known.table == Some(*table));
                self.listening.retain(is_known);
                for Listed { name, table, repairs } in streams {
                    let state = self.world.streams.entry(name).or_default();
                    if state.table != table {
                        *state = StreamEntry { table, ..StreamEntry::default() };
                    }
                    if state.repairs != repairs {
                        (state.repairs, state.known) = (repairs, Known::default());
                        // Up to where it has been read is known of its consumers only.
                        state.stream.take_if(|stream| stream.is_empty());
                    }
                }
                self.apply(consumers);
                self.apply_sources(&sources);
                None
            }
            Ok(None) => Some(End::NoExtension),
            Err(error) => {
                self.fail("cannot read the configuration", &error);
                self.config_read = false;
                None
            }
        }
    }

    fn apply(&mut self, configs: Vec<Config>) {
        let mut configs: BTreeMap<ConsumerId, Config> =
            configs.into_iter().map(|config| (config.id, config)).collect();
        // Tables come and go, and are altered: also those are looked at again that somebody waits for.
        self.caught_up.clear();
        self.has_more.extend(&self.waiting_on);
        let gone: Vec<ConsumerId> =
            self.world.consumers.keys().filter(|id| !configs.contains_key(id)).copied().collect();
        for &id in &gone {
            self.forget(id);
        }
        if !gone.is_empty()
            && let Err(error) =
                process::transaction(|| gone.into_iter().try_for_each(checkpoints::forget))
        {
            self.fail("cannot clean up after dropped consumers", &error);
        }
        while let Some((id, config)) = configs.pop_first() {
            self.reconfigure(id, config);
        }
        // Streams that are made anew are read from the start when they are used; nobody waits for one whose
        // table was dropped.
        let mut orphans = Vec::new();
        for (&id, state) in &mut self.world.consumers {
            let stream = self.world.streams.get(&state.config.stream);
            state.loaded &= stream.is_some_and(|s| s.stream.is_some());
            if stream.is_none_or(|s| s.table.is_none()) {
                orphans.push(id);
            }
        }
        orphans.into_iter().for_each(|id| self.refuse_waiting(id, &Answer::NoConsumer));
    }

    fn reconfigure(&mut self, id: ConsumerId, config: Config) {
        let Some(state) = self.world.consumers.get_mut(&id) else {
            self.world.consumers.insert(id, new_state(config));
            return;
        };
        if state.config == config {
            return;
        }
        let is_rewound = state.config.generation != config.generation;
        let old = std::mem::replace(&mut state.config, config);
        if !state.loaded {
            return;
        }
        let (filters, settings) = (parse(&state.config.filters), state.config.settings.clone());
        let start = ConsumerState::start(
            state.config.start_after,
            checkpoints::ranges(&state.config.start_done).unwrap_or_default(),
        );
        if is_rewound {
            state.forget_unwritten();
        }
        let Some(stream) = self.world.stream_of(id) else { return };
        if is_rewound {
            let totals = stream.state(id).unwrap_or_default();
            stream.put(id, filters, settings, start.with_totals(&totals));
        } else if old.filters == state_filters(&filters) && applies_in_place(stream, id, &settings)
        {
            if let Some(consumer) = stream.consumer_mut(id) {
                consumer.set(settings);
            }
        } else if let Some(saved) = stream.state(id) {
            // What was loaded by the old filters or order is offered anew.
            let events = stream.consumer_mut(id).map(|c| c.take_events()).unwrap_or_default();
            stream.put(id, filters, settings, saved);
            if let Some(state) = self.world.consumers.get_mut(&id) {
                state.unwritten.extend(events);
            }
        }
        if is_rewound {
            self.save_soon(id);
        }
        self.world.touched.insert(id);
    }

    /// The consumer is dropped: those who wait for it are told.
    fn forget(&mut self, id: ConsumerId) {
        self.refuse_waiting(id, &Answer::NoConsumer);
        if let Some(stream) = self.world.stream_of(id) {
            stream.remove(id);
        }
        self.world.consumers.remove(&id);
        self.unsaved.remove(&id);
    }

    /// Has the consumer's state in memory, reading it if need be.
    pub(super) fn load(&mut self, id: ConsumerId) -> Result<(), NotLoaded> {
        let state = self.world.consumers.get(&id).ok_or(NotLoaded::Unknown)?;
        if state.loaded {
            return Ok(());
        }
        if now() < self.retry_loading_at {
            return Err(NotLoaded::NotNow);
        }
        let config = state.config.clone();
        self.open_stream(&config.stream)?;
        let restored = match process::try_transaction(|| restore(&config)) {
            Ok(restored) => restored,
            Err(failure) => {
                if failure.is_lock {
                    self.retry_loading_at = now() + RETRY_LOCKED;
                }
                self.fail_consumer(id, "cannot read its state", &failure.text);
                return Err(NotLoaded::NotNow);
            }
        };
        if !self.ids.are_above(restored.highest) {
            return Err(NotLoaded::EpochBehind);
        }
        let max_delivered = max_delivered(&restored.saved, config.start_after, config.start_last);
        self.check_max_delivered(&config.stream, max_delivered)?;
        let Some(stream) = self.world.stream_of(id) else { return Err(NotLoaded::NotNow) };
        stream.put(id, parse(&config.filters), config.settings, restored.saved);
        let cursor = stream.cursor(id).unwrap_or(0);
        if let Some(state) = self.world.consumers.get_mut(&id) {
            state.loaded = true;
            state.checkpoint = LastCheckpoint { cursor, ..restored.checkpoint };
            state.applied = restored.applied;
        }
        self.world.touched.insert(id);
        // Leases that ran out while nobody looked.
        self.next_tick = 0;
        self.tick();
        Ok(())
    }

    /// Has the stream in memory, if its table can be read.
    fn open_stream(&mut self, name: &str) -> Result<(), NotLoaded> {
        let database = self.database;
        let state = self.world.streams.entry(name.into()).or_default();
        if state.stream.is_some() {
            return Ok(());
        }
        let known = state.known;
        let opened = process::transaction(|| {
            let tail = streams::tail(name, known);
            let Tail::Locked(table, known) = tail else { return Ok(Err(tail)) };
            let stream = Stream::new(known.last, &session_entry::publishers(database, table).all());
            Ok(Ok((table, known, stream)))
        });
        match opened {
            Ok(Ok((table, known, stream))) => {
                state.table = Some(table);
                state.stream = Some(stream);
                state.known = known;
                state.retry_at = 0;
                self.note_fault(name, None);
                Ok(())
            }
            Ok(Err(Tail::Broken(fault))) => {
                self.note_fault(name, Some(fault));
                Err(NotLoaded::Damaged(fault))
            }
            Ok(Err(Tail::Missing)) => Err(NotLoaded::Unknown),
            Ok(Err(_)) => Err(NotLoaded::NotNow),
            Err(error) => {
                self.fail(&format!("cannot open stream \"{name}\""), &error);
                Err(NotLoaded::NotNow)
            }
        }
    }

    /// Remembers and logs what went wrong with one consumer.
    pub(super) fn fail_consumer(&mut self, id: ConsumerId, what: &str, error: &str) {
        if let Some(state) = self.world.consumers.get_mut(&id) {
            state.last_error = Some(format!("{what}: {error}"));
            let name = state.config.name.clone();
            self.fail(&format!("consumer \"{name}\": {what}"), error);
        }
    }

    /// Remembers and logs what went wrong.
    pub(super) fn fail(&mut self, what: &str, error: &str) {
        self.database.dispatcher.set_error(&format!("{what}: {error}"));
        pgrx::warning!("sequin dispatcher: {what}: {error}");
    }
}

impl World {
    /// Forgets the streams that are not among these: they were dropped.
    fn keep_streams(&mut self, streams: &[Listed]) {
        let names: HashSet<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        self.streams.retain(|name, _| names.contains(name.as_str()));
    }
}

fn new_state(config: Config) -> ConsumerEntry {
    ConsumerEntry {
        config,
        loaded: false,
        waiting: Waiters::default(),
        unwritten: Vec::new(),
        unwritten_since: None,
        applied: Vec::new(),
        checkpoint: LastCheckpoint::default(),
        last_error: None,
    }
}

/// Filters were checked when they were set; one that a later version can't read matches nothing.
fn parse(filters: &[String]) -> Vec<Filter> {
    filters.iter().filter_map(|filter| Filter::parse(filter).ok()).collect()
}

fn state_filters(filters: &[Filter]) -> Vec<String> {
    filters.iter().map(|filter| filter.as_str().into()).collect()
}

/// True if the consumer can take the settings as it is.
fn applies_in_place(
    stream: &Stream,
    id: ConsumerId,
    settings: &sequin_engine::settings::Settings,
) -> bool {
    stream.consumer(id).is_some_and(|consumer| consumer.settings().ordered == settings.ordered)
}

/// Reads a consumer's checkpoint and replays what has been journalled since.
fn restore(config: &Config) -> Result<Restored, Error> {
    let id = config.id;
    let newest = checkpoints::newest(id)?;
    let mut checkpoint = LastCheckpoint { at: now(), ..LastCheckpoint::default() };
    let mut saved =
        ConsumerState::start(config.start_after, checkpoints::ranges(&config.start_done)?);
    let mut open_acks = Vec::new();
    if let Some(newest) = newest {
        checkpoint.id = newest.id;
        open_acks = newest.open_acks;
        saved = match newest.generation == config.generation {
            true => newest.state,
            false => saved.with_totals(&newest.state),
        };
    }
    let mut applied = Vec::new();
    let mut journal: BTreeMap<i64, Change> = BTreeMap::new();
    for event in outbox::of_consumer(id, checkpoint.id, config.generation)? {
        journal.insert(event.id, event.change);
        checkpoint.events += 1;
    }
    for ack in acks::of_consumer(id, checkpoint.id, &open_acks)? {
        applied.push(ack.id);
        if ack.generation != config.generation {
            continue;
        }
        if let Change::Finished { seqs } = &ack.change {
            let count = i64::try_from(seqs.len()).unwrap_or(0);
            match ack.kind {
                Kind::Rejected => saved.dead_total += count,
                _ => saved.acked_total += count,
            }
        }
        journal.insert(ack.id, ack.change);
    }
    if !saved.is_possible() || !journal.values().all(Change::is_possible) {
        let facts = format!("the journal of consumer {id} has numbers that nobody counts up to");
        return Err(Error::Internal(facts));
    }
    let last = journal.keys().next_back().copied().unwrap_or(0);
    let in_flight = saved.highest_ack_id();
    for (_, change) in journal {
        saved.replay(change);
    }
    let highest = last.max(checkpoint.id).max(in_flight).max(saved.highest_ack_id());
    checkpoint.size = saved.size();
    Ok(Restored { saved, checkpoint, applied, highest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_stream_is_forgotten_and_others_are_as_they_were() {
        let mut world = World::default();
        for name in ["kept", "dropped"] {
            let state = StreamEntry { stream: Some(Stream::new(1, &[])), ..StreamEntry::default() };
            world.streams.insert(name.into(), state);
        }
        let listed = |name: &str| Listed { name: name.into(), table: None, repairs: 0 };
        world.keep_streams(&[listed("kept"), listed("new")]);
        assert_eq!(world.streams.keys().collect::<Vec<_>>(), ["kept"]);
        assert!(world.streams.get("kept").is_some_and(|state| state.stream.is_some()));
    }
}
