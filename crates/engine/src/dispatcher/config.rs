//! Streams and consumers as they are configured: what has changed is applied to what is in memory.

use super::interface::{
    Answer, Config, ConsumerConfig, Effect, End, Shared, StreamConfig, StreamId,
};
use super::loading::parse;
use super::waiters::Waiters;
use super::{ConsumerEntry, Dispatcher, LastCheckpoint, Step, StreamEntry};
use crate::fault::Known;
use crate::settings::Settings;
use crate::stream::{ConsumerId, Stream};
use std::collections::BTreeMap;

impl Dispatcher {
    /// Applies what has been read.
    pub(super) fn configure<S: Shared>(
        &mut self,
        read: Result<Option<Config>, String>,
        s: &mut Step<S>,
    ) {
        match read {
            Ok(Some(Config { streams, consumers })) => {
                self.config_read = true;
                let ids = self.apply_streams(streams, s);
                self.apply_consumers(consumers, &ids, s);
                // Tables come and go, and are altered: those are looked at again that somebody waits for.
                self.world.streams.values_mut().for_each(|entry| entry.caught_up = false);
                self.has_more.extend(&self.waited_for);
            }
            Ok(None) => s.out.push(Effect::End(End::NoExtension)),
            Err(error) => {
                self.config_read = false;
                s.out.push(Effect::Log(format!("cannot read the configuration: {error}")));
            }
        }
    }

    /// Forgets the streams that are not among these, and returns the others by name.
    fn apply_streams<S: Shared>(
        &mut self,
        streams: Vec<StreamConfig>,
        s: &mut Step<S>,
    ) -> BTreeMap<String, StreamId> {
        let ids: BTreeMap<String, StreamId> =
            (streams.iter()).filter_map(|stream| Some((stream.name.clone(), stream.id?))).collect();
        let is_there = |id: &StreamId| streams.iter().any(|stream| stream.id == Some(*id));
        let gone: Vec<StreamId> =
            self.world.streams.keys().copied().filter(|id| !is_there(id)).collect();
        for id in gone {
            self.forget_stream(id, s);
        }
        for StreamConfig { name, id, repairs } in streams {
            let Some(id) = id else { continue };
            let entry = self
                .world
                .streams
                .entry(id)
                .or_insert_with(|| StreamEntry { repairs, ..StreamEntry::default() });
            entry.name = name;
            if std::mem::replace(&mut entry.repairs, repairs) != repairs {
                entry.known = Known::default();
                // Up to where it has been read is known of its consumers only.
                entry.stream.take_if(|stream| stream.is_empty());
            }
        }
        ids
    }

    fn forget_stream<S: Shared>(&mut self, id: StreamId, s: &mut Step<S>) {
        self.listening.remove(&id);
        let Some(entry) = self.world.streams.remove(&id) else { return };
        let to_check = entry.to_check.into_iter().map(|(consumer, _)| consumer);
        for consumer in entry.to_restore.into_iter().chain(to_check) {
            self.refuse_load(consumer, &Answer::NoConsumer, s);
        }
        for consumer in entry.readers {
            self.resume(consumer, true);
        }
    }

    fn apply_consumers<S: Shared>(
        &mut self,
        configs: Vec<ConsumerConfig>,
        streams: &BTreeMap<String, StreamId>,
        s: &mut Step<S>,
    ) {
        let mut configs: BTreeMap<ConsumerId, ConsumerConfig> =
            configs.into_iter().map(|config| (config.id, config)).collect();
        let gone: Vec<ConsumerId> =
            self.world.consumers.keys().filter(|id| !configs.contains_key(id)).copied().collect();
        gone.iter().for_each(|&id| self.forget(id, s));
        if !gone.is_empty() {
            s.out.push(Effect::Forget(gone));
        }
        while let Some((id, config)) = configs.pop_first() {
            let stream = streams.get(&config.stream).copied();
            self.reconfigure(id, config, s);
            self.move_to(id, stream, s);
        }
    }

    fn reconfigure<S: Shared>(&mut self, id: ConsumerId, config: ConsumerConfig, s: &mut Step<S>) {
        let Some(entry) = self.world.consumers.get_mut(&id) else {
            self.world.consumers.insert(id, ConsumerEntry::new(config));
            return;
        };
        if entry.config == config {
            return;
        }
        let is_rewound = entry.config.generation != config.generation;
        let old = std::mem::replace(&mut entry.config, config);
        if is_rewound {
            // It is of another generation, and would be written as if it were of this one.
            self.forget_unwritten(id);
        }
        let Some(entry) = self.world.consumers.get(&id).filter(|entry| entry.loaded) else {
            return;
        };
        let (filters, settings) = (parse(&entry.config.filters), entry.config.settings.clone());
        let start = entry.config.start().unwrap_or_default();
        let has_same_filters = old.filters == entry.config.filters;
        let Some(stream) = self.world.stream_of_mut(id) else { return };
        if is_rewound {
            let totals = stream.state(id).unwrap_or_default();
            stream.put(id, filters, settings, start.with_totals(&totals));
            self.save_soon(id);
        } else if has_same_filters && applies_in_place(stream, id, &settings) {
            if let Some(consumer) = stream.consumer_mut(id) {
                consumer.set(settings);
            }
        } else {
            self.put_again(id, s);
        }
        self.world.touched.insert(id);
    }

    /// A stream that was made anew is read from the start when it is used; nobody waits for one whose table was dropped.
    fn move_to<S: Shared>(&mut self, id: ConsumerId, stream: Option<StreamId>, s: &mut Step<S>) {
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        entry.stream = stream;
        let is_there = stream
            .and_then(|stream| self.world.streams.get(&stream)?.stream.as_ref()?.consumer(id))
            .is_some();
        if entry.loaded && !is_there {
            self.note_unloaded(id);
        }
        if stream.is_none() {
            self.refuse_waiting(id, &Answer::NoConsumer, s);
        }
    }

    /// The consumer is dropped: those who wait for it are told.
    fn forget<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        self.refuse_waiting(id, &Answer::NoConsumer, s);
        self.refuse_load(id, &Answer::NoConsumer, s);
        if let Some(stream) = self.world.stream_of_mut(id) {
            stream.remove(id);
        }
        self.note_unloaded(id);
        self.world.consumers.remove(&id);
        self.unsaved.remove(&id);
        self.unwritten.remove(&id);
        self.held_back.remove(&id);
        self.to_fill.remove(&id);
        self.has_more.remove(&id);
    }
}

impl ConsumerEntry {
    fn new(config: ConsumerConfig) -> ConsumerEntry {
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

/// True if the consumer can take the settings as it is.
fn applies_in_place(stream: &Stream, id: ConsumerId, settings: &Settings) -> bool {
    stream.consumer(id).is_some_and(|consumer| consumer.settings().ordered == settings.ordered)
}
