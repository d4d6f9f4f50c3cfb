//! Streams and consumers as they are configured: what has changed is applied to what is in memory.
//!
//! A consumer refers to its stream by name. So a stream that comes or goes takes the consumers of its name along.

use super::exchange::Answer;
use super::interface::{Effect, End, Shared};
use super::stored::{Config, ConsumerConfig, StreamConfig};
use super::world::{ConsumerEntry, StreamEntry};
use super::{Dispatcher, Step};
use crate::changes::Changes;
use crate::fault::Known;
use crate::ids::{ConsumerId, StreamId};
use crate::pending::Consumers;
use std::collections::BTreeSet;

impl Dispatcher {
    /// Asks for what has changed to be read; for everything, as long as nothing is known.
    pub(super) fn read_config<S: Shared>(&mut self, changes: Changes, s: &mut Step<S>) {
        let changes = if self.config_read { changes } else { Changes::everything() };
        s.out.push(Effect::ReadConfig(Box::new(changes)));
    }

    /// Applies what has been read.
    pub(super) fn configure<S: Shared>(
        &mut self,
        changes: &Changes,
        read: Result<Option<Config>, String>,
        s: &mut Step<S>,
    ) {
        match read {
            Ok(Some(Config { streams, consumers })) => {
                self.config_read |= *changes == Changes::everything();
                // What is known of consumers whose stream is another one from here on is written before they are read anew.
                self.take_account(s);
                let mut changed = self.apply_streams(changes, streams, s);
                let read = self.apply_consumers(changes, consumers, s);
                changed.extend(&read);
                changed.iter().for_each(|&id| self.move_to_stream(id, s));
                let is_orphan = |&id: &ConsumerId| self.world.stream_id(id).is_none();
                if *changes != Changes::everything() && read.iter().any(is_orphan) {
                    // Its stream's table may have been made in a way that is not noticed, such as CREATE TABLE.
                    self.read_config(Changes::everything(), s);
                }
                // Tables come and go, and are altered: those are looked at again that somebody waits for.
                self.has_more.extend(changed.intersection(&self.waited_for));
            }
            Ok(None) => s.out.push(Effect::End(End::NoExtension)),
            Err(error) => {
                self.config_read = false;
                s.out.push(Effect::Log(format!("cannot read the configuration: {error}")));
            }
        }
    }

    /// Forgets the streams that have changed and are not among these. Returns the consumers of all that have changed.
    fn apply_streams<S: Shared>(
        &mut self,
        changes: &Changes,
        streams: Vec<StreamConfig>,
        s: &mut Step<S>,
    ) -> BTreeSet<ConsumerId> {
        let changed =
            changes.streams().unwrap_or_else(|| self.world.streams.keys().copied().collect());
        let read: BTreeSet<StreamId> = streams.iter().map(|stream| stream.id).collect();
        let mut names = BTreeSet::new();
        for id in changed.into_iter().filter(|id| !read.contains(id)) {
            names.extend(self.forget_stream(id, s));
        }
        for stream in streams {
            // One that was renamed is another one, as is one that was made anew under the same name.
            let (id, before) = (stream.id, self.world.stream_named(&stream.name));
            if before != Some(id) {
                let others = [Some(id), before].into_iter().flatten();
                names.extend(others.filter_map(|id| self.forget_stream(id, s)));
            }
            names.insert(stream.name.clone());
            self.apply_stream(stream);
        }
        let named = names.iter().filter_map(|name| self.world.names.get(name));
        named.flat_map(|named| &named.consumers).copied().collect()
    }

    fn apply_stream(&mut self, StreamConfig { name, id, repairs }: StreamConfig) {
        self.world.at_name(&name, |named| named.stream = Some(id));
        let entry = self.world.streams.entry(id).or_insert_with(|| StreamEntry {
            name,
            repairs,
            ..StreamEntry::default()
        });
        entry.caught_up = false;
        if std::mem::replace(&mut entry.repairs, repairs) != repairs {
            entry.known = Known::default();
            // Up to where it has been read is known of its consumers only.
            entry.stream.take_if(|stream| stream.is_empty());
        }
    }

    /// Returns the name it had, if it was known.
    fn forget_stream<S: Shared>(&mut self, id: StreamId, s: &mut Step<S>) -> Option<String> {
        let entry = self.world.streams.remove(&id)?;
        self.listening.remove(&id);
        self.world.at_name(&entry.name, |named| named.stream.take_if(|named| *named == id));
        let to_check = entry.to_check.into_iter().map(|(consumer, _)| consumer);
        for consumer in entry.to_restore.into_iter().chain(to_check) {
            self.refuse_load(consumer, &Answer::NoConsumer, s);
        }
        for consumer in entry.readers {
            self.resume(consumer, true);
        }
        Some(entry.name)
    }

    /// Forgets the consumers that have changed and are not among these, and returns the others.
    fn apply_consumers<S: Shared>(
        &mut self,
        changes: &Changes,
        configs: Vec<ConsumerConfig>,
        s: &mut Step<S>,
    ) -> BTreeSet<ConsumerId> {
        let changed =
            changes.consumers().unwrap_or_else(|| self.world.consumers.keys().copied().collect());
        let read: BTreeSet<ConsumerId> = configs.iter().map(|config| config.id).collect();
        let is_gone = |id: &ConsumerId| !read.contains(id) && self.world.consumers.contains_key(id);
        let gone: Vec<ConsumerId> = changed.into_iter().filter(is_gone).collect();
        gone.iter().for_each(|&id| self.forget(id, s));
        if !gone.is_empty() {
            s.out.push(Effect::Forget(gone));
        }
        configs.into_iter().for_each(|config| self.reconfigure(config, s));
        read
    }

    fn reconfigure<S: Shared>(&mut self, config: ConsumerConfig, s: &mut Step<S>) {
        let id = config.id;
        let Some(entry) = self.world.consumers.get_mut(&id) else {
            self.world.at_name(&config.stream, |named| named.consumers.insert(id));
            self.world.consumers.insert(id, ConsumerEntry::new(config));
            return;
        };
        if entry.config == config {
            return;
        }
        let old = std::mem::replace(&mut entry.config, config.clone());
        if old.stream != config.stream {
            self.world.at_name(&old.stream, |named| named.consumers.remove(&id));
            self.world.at_name(&config.stream, |named| named.consumers.insert(id));
        }
        let is_rewound = old.generation != config.generation;
        if is_rewound {
            // It is of another generation, and would be written as if it were of this one.
            self.forget_unwritten(id);
        }
        if !self.world.consumers.get(&id).is_some_and(|entry| entry.loaded) {
            return;
        }
        self.world.touched.insert(id);
        let is_same =
            old.filters == config.filters && old.settings.ordered == config.settings.ordered;
        if is_rewound {
            let stream = self.world.stream_of(id);
            let totals = stream.and_then(|stream| stream.state(id)).unwrap_or_default();
            self.put(id, config.start().unwrap_or_default().with_totals(&totals));
            self.save_soon(id);
        } else if !is_same {
            self.put_again(id, s);
        } else if let Some(consumer) = self.world.consumer(id) {
            consumer.set(config.settings);
        }
    }

    /// Gives a consumer the stream that has its name now. A stream that was made anew is read from the start when it is
    /// used. Sessions that wait ask for it anew, and are refused if its table was dropped.
    fn move_to_stream<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        let Some(entry) = self.world.consumers.get(&id) else { return };
        let stream = self.world.stream_named(&entry.config.stream);
        let Some(entry) = self.world.consumers.get_mut(&id) else { return };
        entry.stream = stream;
        let is_there = stream
            .and_then(|stream| self.world.streams.get(&stream)?.stream.as_ref()?.consumer(id))
            .is_some();
        if entry.loaded && !is_there {
            self.note_unloaded(id);
            self.ask_anew(id, s);
        }
    }

    /// The consumer is dropped: requests that wait for it are refused.
    fn forget<S: Shared>(&mut self, id: ConsumerId, s: &mut Step<S>) {
        self.refuse_waiting(id, &Answer::NoConsumer, s);
        self.refuse_load(id, &Answer::NoConsumer, s);
        if let Some(stream) = self.world.stream_of_mut(id) {
            stream.remove(id);
        }
        self.note_unloaded(id);
        if let Some(entry) = self.world.consumers.remove(&id) {
            self.world.at_name(&entry.config.stream, |named| named.consumers.remove(&id));
        }
        self.unsaved.remove(&id);
        self.unwritten.remove(&id);
        self.held_back.remove(&id);
        self.to_fill.remove(&id);
        self.has_more.remove(&id);
    }
}
