//! The end of a run: everybody acks all that they get, and everything that matches must have come.

use super::server::Worker;
use super::world::{Numbers, SECOND, SESSIONS, World};
use super::{Checked, Op, fail};
use crate::changes::Change;
use crate::entry::Mailbox;
use crate::ids::ConsumerId;
use crate::key::key_id;

/// More than any run needs.
const MAX_ROUNDS: usize = 300;

impl World {
    pub fn drain(&mut self) -> Checked {
        let n = &mut Numbers(7);
        self.is_calm = true;
        for db in 0..2 {
            self.unlock(db);
            let tables = &self.databases[db].storage.now;
            let paused = tables.consumers.values().filter(|of| of.config.settings.paused);
            let paused: Vec<Change> = paused.map(|of| Change::Consumer(of.config.id)).collect();
            self.databases[db].storage.write(true, |tables| {
                for consumer in tables.consumers.values_mut() {
                    consumer.config.settings.paused = false;
                }
            });
            self.note_changes(db, &paused);
        }
        for c in 0..SESSIONS {
            self.finish_commit(c, n);
            self.roll_back(c);
        }
        for db in 0..2 {
            for round in 0.. {
                (0..2).try_for_each(|db| self.settle(db, n))?;
                if self.clients[db].is_there_in(db) {
                    break;
                }
                if round > 100 {
                    return fail("no process gets the entry");
                }
                self.die(db, n);
            }
            let all: Vec<ConsumerId> =
                self.databases[db].storage.now.consumers.keys().copied().collect();
            for &id in &all {
                self.drain_consumer(db, id, n)?;
            }
            self.check_folded(db, &all, n)?;
        }
        Ok(())
    }

    /// All that was acked is in a checkpoint after some time, and no row of it is left.
    fn check_folded(&mut self, db: usize, all: &[ConsumerId], n: &mut Numbers) -> Checked {
        let c = db;
        self.finish_commit(c, n);
        self.roll_back(c);
        for _ in 0..2 {
            self.now += 7200 * SECOND;
            self.databases[db].is_woken = true;
            self.settle(db, n)?;
        }
        let database = &self.databases[db];
        let Some(worker) = &database.worker else { return fail("there is no dispatcher") };
        for id in all.iter().filter(|id| worker.rules.consumer_of(**id).is_some()) {
            let left = database.storage.now.consumers.get(id).map_or(0, |of| of.acks.len());
            if left > 0 {
                return fail(format!("{left} acks of {id} are in no checkpoint"));
            }
        }
        Ok(())
    }

    /// Lets the dispatcher do all it has to.
    fn settle(&mut self, db: usize, n: &mut Numbers) -> Checked {
        for _ in 0..20 {
            self.step(db, n)?;
        }
        self.check_config(db)
    }

    /// A dispatcher that has been told of no change knows the streams and consumers that there are, and no others.
    pub fn check_config(&self, db: usize) -> Checked {
        let database = &self.databases[db];
        let is_current = |worker: &&Worker| worker.rules.is_ready() && !database.config_changed;
        let Some(worker) = database.worker.as_ref().filter(is_current) else { return Ok(()) };
        let tables = &database.storage.now;
        let streams = tables.streams.iter().map(|(&id, stream)| (id, stream.name.as_str()));
        if !worker.rules.known_streams().eq(streams) {
            return fail(format!("it knows other streams than {:?}", tables.streams));
        }
        let consumers = (tables.consumers.values())
            .map(|of| (&of.config, tables.stream_of(of).map(|(id, _)| id)));
        if !worker.rules.known_consumers().eq(consumers) {
            return fail(format!("it knows other consumers than {:?}", tables.consumers));
        }
        Ok(())
    }

    fn drain_consumer(&mut self, db: usize, id: ConsumerId, n: &mut Numbers) -> Checked {
        let c = db;
        for _ in 0..MAX_ROUNDS {
            if self.is_drained(db, id) {
                return Ok(());
            }
            self.finish_commit(c, n);
            self.roll_back(c);
            self.ask_for_all(c, id);
            for _ in 0..40 {
                self.step(db, n)?;
                self.client_op(Op::TakeAnswer, c, n);
                if !self.clients[c].is_waiting() {
                    break;
                }
                self.check_wakefulness(db)?;
                self.now += SECOND;
            }
            self.ack_all(c, n);
            for _ in 0..10 {
                self.step(db, n)?;
                self.client_op(Op::TakeAnswer, c, n);
            }
            self.commit(c, n);
            self.finish_commit(c, n);
            // Longer than any lease, also one that was restored after the wall clock had been set back.
            self.now += 7200 * SECOND;
        }
        fail(format!("some messages never come to {id}: {:?}", self.missing(db, id)))
    }

    /// Nobody is left waiting for what is there: a dispatcher that sleeps has something for nobody.
    pub fn check_wakefulness(&self, db: usize) -> Checked {
        if let Some(violation) = &self.violation {
            return fail(violation);
        }
        let database = &self.databases[db];
        let Some(worker) = database.worker.as_ref().filter(|_| !database.is_woken) else {
            return Ok(());
        };
        if worker.rules.wake_at() <= self.now {
            return Ok(());
        }
        for (c, client) in self.clients.iter().enumerate().filter(|(_, it)| it.database == db) {
            if database.waited_for && client.entry.has_outcome() {
                return fail(format!("session {c} has ended a transaction, and nobody knows"));
            }
            if client.entry.mailbox() == Mailbox::Taken && !worker.rules.is_serving(c) {
                return fail(format!("session {c} waits for an answer, and nobody knows"));
            }
        }
        let tables = &database.storage.now;
        for (&id, consumer) in &tables.consumers {
            let is_known = worker.rules.config(id) == Some(&consumer.config);
            let is_free = !worker.rules.is_unreadable(id, self.now) && !database.journal_is_locked;
            if !is_known || !is_free || !worker.rules.is_waited_for(id) {
                continue;
            }
            let Some(state) = worker.rules.consumer_of(id) else {
                match worker.rules.waiting_for(id) {
                    0 => continue,
                    _ => return fail(format!("{id} is waited for, and not in memory")),
                }
            };
            if state.deliverable() > 0 {
                return fail(format!("{id} has messages, and who waits for them is left waiting"));
            }
            let Some((stream, found)) = tables.stream_of(consumer) else { continue };
            if state.settings().paused || state.is_full() || state.room() == 0 {
                continue;
            }
            for (&seq, message) in &found.messages {
                let is_new = database.noticed.contains_key(&(stream, seq))
                    && !message.removed
                    && consumer.matches(message.key)
                    && seq > consumer.config.start_after
                    && !consumer.done.contains(&seq)
                    && !consumer.open.contains(&seq);
                let is_known = state.is_unfinished(seq, key_id(message.key))
                    || worker.rules.dead_letters(id).any(|item| item.seq == seq);
                if is_new && !is_known {
                    return fail(format!("{seq} is there, and who waits for {id} is left waiting"));
                }
            }
        }
        Ok(())
    }

    fn is_drained(&self, db: usize, id: ConsumerId) -> bool {
        self.missing(db, id).is_empty()
    }

    fn missing(&self, db: usize, id: ConsumerId) -> Vec<i64> {
        let tables = &self.databases[db].storage.now;
        let Some(consumer) = tables.consumers.get(&id) else { return Vec::new() };
        let Some((_, stream)) = tables.stream_of(consumer) else { return Vec::new() };
        let is_missing = |(seq, message): &(&i64, &super::tables::Message)| {
            !message.removed
                && consumer.matches(message.key)
                && **seq > consumer.config.start_after
                && !consumer.done.contains(seq)
                && !consumer.open.contains(seq)
        };
        stream.messages.iter().filter(is_missing).map(|(&seq, _)| seq).collect()
    }
}
