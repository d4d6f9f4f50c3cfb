//! What changes the ground under the sessions: ends of dispatchers and of the server, locks, other settings, deletes.

use super::mistakes::Mistake;
use super::tables::{Consumer, Stream};
use super::world::{FILTERS, Numbers, SECOND, World};
use crate::changes::{Change, Changes};
use crate::ids::{ConsumerId, Generation, StreamId};
use crate::key::Seq;

impl World {
    /// The dispatcher's memory is gone, and with it what it had not written.
    pub fn kill(&mut self, db: usize) {
        self.databases[db].worker = None;
        self.databases[db].reign = 0;
        self.doubt_leases(db);
    }

    /// The dispatcher's ids are nearly spent: after its step it needs another epoch.
    pub fn spend_ids(&mut self, db: usize) {
        let Some(worker) = self.databases[db].worker.as_mut() else { return };
        if !worker.rules.ids.nearly_spent() {
            worker.rules.ids.take((1 << 40) - (1 << 23));
        }
    }

    /// The server's memory is gone, and part of what was not flushed to disk.
    pub fn cut_power(&mut self, n: &mut Numbers) {
        self.lose_sessions();
        let operations = self.operations;
        for db in 0..2 {
            self.kill(db);
            let skipped = n.below(3) as Seq;
            let database = &mut self.databases[db];
            database.storage.cut_power(n.below(1000));
            // The sequence may skip some values.
            database.storage.write(true, move |tables| {
                tables.streams.values_mut().for_each(|stream| stream.last += skipped);
            });
            database.marked.clear();
            database.published.clear();
            database.listening.clear();
            (database.waited_for, database.config_changed) = (false, false);
            database.changes = Changes::default();
            let tables = &database.storage.now;
            database.noticed = (tables.streams.iter())
                .flat_map(|(&id, s)| s.messages.keys().map(move |&seq| ((id, seq), operations)))
                .collect();
            database.handed.clear();
        }
    }

    pub fn lock(&mut self, db: usize, n: &mut Numbers) {
        let database = &mut self.databases[db];
        let streams: Vec<StreamId> = database.storage.now.streams.keys().copied().collect();
        match n.pick(&streams).filter(|_| n.below(3) > 0) {
            Some(stream) => drop(database.locked.insert(stream)),
            None => database.journal_is_locked = true,
        }
    }

    pub fn unlock(&mut self, db: usize) {
        self.databases[db].locked.clear();
        self.databases[db].journal_is_locked = false;
    }

    /// A transaction has committed that has changed these.
    pub fn note_changes(&mut self, db: usize, these: &[Change]) {
        let database = &mut self.databases[db];
        let told = match self.mistake {
            Some(Mistake::ChangeUntold) => these.get(1..).unwrap_or_default(),
            _ => these,
        };
        let mut changes = Changes::default();
        told.iter().for_each(|&change| changes.note(change));
        database.changes.add(&changes);
        database.config_changed = true;
        database.is_woken = true;
    }

    fn some_consumer_of(&self, db: usize, n: &mut Numbers) -> Option<ConsumerId> {
        n.pick(&self.databases[db].storage.now.consumers.keys().copied().collect::<Vec<_>>())
    }

    pub fn alter(&mut self, db: usize, n: &mut Numbers) {
        let Some(id) = self.some_consumer_of(db, n) else { return };
        let mut config = self.databases[db].storage.now.consumers[&id].config.clone();
        let settings = &mut config.settings;
        match n.below(6) {
            0 => settings.max_ack_pending = [1, 2, 5, 1000][n.below(4)],
            1 => settings.max_deliver = [None, Some(1), Some(3)][n.below(3)],
            2 => {
                settings.backoff =
                    [vec![], vec![SECOND], vec![1_000, 5 * SECOND]][n.below(3)].clone()
            }
            3 => settings.ordered = !settings.ordered,
            4 => settings.paused = n.one_in(3),
            _ => config.filters = vec![FILTERS[n.below(FILTERS.len())].into()],
        }
        self.databases[db].storage.write(true, move |tables| {
            let tables_before = tables.clone();
            let Some(consumer) = tables.consumers.get_mut(&id) else { return };
            let before = consumer.clone();
            consumer.config = config.clone();
            let found = tables_before.stream_of(&before).map(|(_, stream)| stream);
            // Whether they have been offered by the filters of before is not known here; nor in which order they come.
            if before.config.filters != config.filters
                || before.config.settings.ordered != config.settings.ordered
            {
                let messages = found.into_iter().flat_map(|stream| 1..=stream.last);
                consumer.open.extend(messages);
            }
        });
        self.note_changes(db, &[Change::Consumer(id)]);
    }

    pub fn rewind(&mut self, db: usize, n: &mut Numbers) {
        let Some(id) = self.some_consumer_of(db, n) else { return };
        let start = n.below(60) as Seq;
        self.databases[db].storage.write(true, move |tables| {
            let Some(consumer) = tables.consumers.get_mut(&id) else { return };
            consumer.config.generation.0 += 1;
            consumer.config.start_after = start;
            consumer.done.clear();
            consumer.open.clear();
        });
        self.forget_promises(db, id);
        self.note_changes(db, &[Change::Consumer(id)]);
    }

    pub fn drop_something(&mut self, db: usize, n: &mut Numbers) {
        if n.one_in(3) {
            let streams: Vec<StreamId> =
                self.databases[db].storage.now.streams.keys().copied().collect();
            let Some(stream) = n.pick(&streams) else { return };
            self.databases[db].storage.write(true, move |tables| {
                tables.streams.remove(&stream);
            });
            self.databases[db].locked.remove(&stream);
            self.note_changes(db, &[Change::Stream(stream)]);
        } else {
            let Some(id) = self.some_consumer_of(db, n) else { return };
            self.databases[db].storage.write(true, move |tables| {
                tables.consumers.remove(&id);
            });
            self.forget_promises(db, id);
            self.note_changes(db, &[Change::Consumer(id)]);
        }
    }

    /// A stream that was dropped is made anew, with its consumers rewound; or a consumer is made.
    pub fn create(&mut self, db: usize, n: &mut Numbers) {
        let database = &mut self.databases[db];
        let tables = &database.storage.now;
        let missing =
            ["s", "t"].into_iter().find(|name| tables.streams.values().all(|s| s.name != *name));
        if let Some(name) = missing {
            database.next_table += 1;
            let id = StreamId(database.next_table);
            database.storage.write(true, move |tables| {
                tables.streams.insert(id, Stream { name: name.into(), ..Stream::default() });
                let of_it = tables.consumers.values_mut().filter(|c| c.config.stream == name);
                for consumer in of_it {
                    consumer.config.generation.0 += 1;
                    consumer.config.start_after = 0;
                    consumer.done.clear();
                    consumer.open.clear();
                }
            });
            let of_it: Vec<ConsumerId> = (database.storage.now.consumers.iter())
                .filter(|(_, consumer)| consumer.config.stream == name)
                .map(|(&id, _)| id)
                .collect();
            of_it.iter().for_each(|&id| self.forget_promises(db, id));
            let rewound = of_it.into_iter().map(Change::Consumer);
            let changes: Vec<Change> = rewound.chain([Change::Stream(id)]).collect();
            self.note_changes(db, &changes);
        } else {
            let Some(from) = self.some_consumer_of(db, n) else { return };
            let database = &mut self.databases[db];
            database.next_table += 1;
            let id = ConsumerId(database.next_table.cast_signed());
            database.storage.write(true, move |tables| {
                if tables.consumers.len() < 6 {
                    let mut config = tables.consumers[&from].config.clone();
                    (config.id, config.generation, config.start_after) = (id, Generation(1), 0);
                    tables.consumers.insert(id, Consumer::new(config));
                }
            });
            self.note_changes(db, &[Change::Consumer(id)]);
        }
    }

    /// The oldest messages of a stream are deleted.
    pub fn retain(&mut self, db: usize, n: &mut Numbers) {
        let database = &mut self.databases[db];
        let streams: Vec<StreamId> = database.storage.now.streams.keys().copied().collect();
        let Some(id) = n.pick(&streams) else { return };
        let count = 1 + n.below(3);
        database.storage.write(false, move |tables| {
            let Some(stream) = tables.streams.get_mut(&id) else { return };
            let left = stream.messages.values_mut().filter(|message| !message.removed);
            left.take(count).for_each(|message| message.removed = true);
        });
    }
}
