//! The requests of sessions, made to the engine and to the reference.

use super::Checked;
use super::run::Run;
use super::session::Asked;
use super::world::Ack;
use crate::event::Change;
use crate::ids::{AckId, AckRowId, ConsumerId};
use crate::key::{Seq, key_id};
use crate::pending::Operation;
use crate::settings::Micros;
use proptest::prelude::*;

/// Live deliveries of a consumer, and their messages.
struct Pinned {
    id: ConsumerId,
    ack_ids: Vec<AckId>,
    seqs: Vec<Seq>,
}

/// The most deliveries that sessions may still refer to.
const HANDED: usize = 60;

impl Run {
    pub fn receive(&mut self, s: usize, id: ConsumerId, batch: usize, lease: Micros) -> Checked {
        if !self.may_ask(s)? {
            return Ok(());
        }
        self.load(id)?;
        let now = self.now;
        let (consumer, mut context) = self.dispatcher.at(id, now)?;
        let deliveries = consumer.grant(batch, lease, 100 + s as i32, &mut context);
        self.check_grant(id, &deliveries, batch, now + lease)?;
        let Some(first) = deliveries.first() else { return Ok(()) };
        let operation = Operation::Received { first_ack_id: first.ack_id, count: deliveries.len() };
        self.operation(s, id, operation)?;
        for delivery in deliveries {
            if self.world.now.messages.get(&delivery.seq).is_none_or(|message| message.removed) {
                let (consumer, mut context) = self.dispatcher.at(id, now)?;
                consumer.gone(delivery.ack_id, &mut context);
                self.watched(id).reference.finish(delivery.seq);
            } else {
                self.handed.push((id, delivery.ack_id));
            }
        }
        self.handed.drain(..self.handed.len().saturating_sub(HANDED));
        Ok(())
    }

    pub fn finish(&mut self, s: usize, which: usize, count: usize, rejected: bool) -> Checked {
        let Some(Pinned { id, ack_ids, seqs }) = self.pin(s, which, count)? else { return Ok(()) };
        let ack_row_id = self.dispatcher.ids.take(1);
        self.operation(
            s,
            id,
            Operation::Finish { ack_ids, ack_row_id: AckRowId(ack_row_id), rejected },
        )?;
        self.write_ack(s, id, AckRowId(ack_row_id), Change::Finished { seqs })
    }

    pub fn nack(&mut self, s: usize, which: usize, count: usize, delay: Option<Micros>) -> Checked {
        let Some(Pinned { id, ack_ids, .. }) = self.pin(s, which, count)? else { return Ok(()) };
        self.operation(s, id, Operation::Nack { ack_ids, delay })
    }

    pub fn extend(&mut self, which: usize, lease: Micros) -> Checked {
        let Some((id, ack_ids)) = self.pick(which, 1) else { return Ok(()) };
        self.load(id)?;
        let now = self.now;
        for ack_id in ack_ids {
            let (consumer, mut context) = self.dispatcher.at(id, now)?;
            let live = consumer.extend(ack_id, lease, &mut context);
            prop_assert_eq!(live, self.watched(id).reference.extend(ack_id, now + lease));
        }
        Ok(())
    }

    pub fn redeliver(&mut self, s: usize, id: ConsumerId, which: usize) -> Checked {
        if !self.may_ask(s)? || self.world.now.messages.is_empty() {
            return Ok(());
        }
        self.load(id)?;
        let config = self.world.config(id)?;
        let all = &self.world.now.messages;
        let mut messages = Vec::new();
        for (&seq, message) in all.iter().skip(which % all.len()).take(1 + which % 3) {
            let watched = &self.watched[&id];
            if message.removed || !config.matches(message.key) || watched.maybe.contains(&seq) {
                continue;
            }
            let stream = self.dispatcher.stream()?;
            let seen = stream.seen(id, seq, key_id(message.key));
            if !stream.tail().is_hole(seq) {
                prop_assert_eq!(seen, watched.reference.is_finished(seq), "{} seen by {}", seq, id);
            }
            if seen {
                messages.push((seq, key_id(message.key)));
            }
        }
        if messages.is_empty() {
            return Ok(());
        }
        let ack_row_id = self.dispatcher.ids.take(1);
        let seqs = messages.iter().map(|&(seq, _)| seq).collect();
        self.operation(s, id, Operation::Redeliver { messages, ack_row_id: AckRowId(ack_row_id) })?;
        self.write_ack(s, id, AckRowId(ack_row_id), Change::Redelivered { seqs })
    }

    /// False for a doomed transaction. The outcome of the transaction before is noticed first.
    fn may_ask(&mut self, s: usize) -> Checked<bool> {
        self.notice(s)?;
        Ok(!self.sessions[s].open().doomed)
    }

    /// Some of the deliveries handed out, of one consumer; now and then one twice.
    fn pick(&self, which: usize, count: usize) -> Option<(ConsumerId, Vec<AckId>)> {
        let from = which.checked_rem(self.handed.len())?;
        let (id, first) = self.handed[from];
        let others = self.handed[from..].iter().filter(|(other, _)| *other == id);
        let mut ack_ids: Vec<AckId> = others.map(|&(_, ack_id)| ack_id).take(1 + count).collect();
        if count == 3 {
            ack_ids.push(first);
        }
        Some((id, ack_ids))
    }

    /// Pins the deliveries that are live, which must be those that the reference says are.
    fn pin(&mut self, s: usize, which: usize, count: usize) -> Checked<Option<Pinned>> {
        let Some((id, ack_ids)) = self.pick(which, count) else { return Ok(None) };
        if !self.may_ask(s)? {
            return Ok(None);
        }
        self.load(id)?;
        let mut pinned = Pinned { id, ack_ids: Vec::new(), seqs: Vec::new() };
        for ack_id in ack_ids {
            let (consumer, _) = self.dispatcher.at(id, self.now)?;
            let delivery = consumer.pin(ack_id);
            let expected = self.watched(id).reference.pin(ack_id);
            prop_assert_eq!(delivery.map(|d| (d.seq, d.deliveries)), expected, "pin {:?}", ack_id);
            pinned.ack_ids.extend(delivery.map(|_| ack_id));
            pinned.seqs.extend(delivery.map(|delivery| delivery.seq));
        }
        Ok(Some(pinned).filter(|pinned| !pinned.ack_ids.is_empty()))
    }

    fn operation(&mut self, s: usize, consumer: ConsumerId, operation: Operation) -> Checked {
        let generation = self.world.config(consumer)?.generation;
        let request_id = self.sessions[s].request_id();
        self.dispatcher.pending[s].add(request_id, consumer, operation.clone());
        self.sessions[s].open().asked.push(Asked { request_id, consumer, generation, operation });
        Ok(())
    }

    /// A row of acks, in the session's transaction.
    fn write_ack(
        &mut self,
        s: usize,
        consumer: ConsumerId,
        id: AckRowId,
        change: Change,
    ) -> Checked {
        let generation = self.world.config(consumer)?.generation;
        self.sessions[s].open().acks.push(Ack { consumer, generation, id, change });
        Ok(())
    }

    /// A transaction committed: applies what it asked for to the reference.
    pub fn expect_commit(&mut self, asked: Vec<Asked>) -> Checked {
        let now = self.now;
        for Asked { consumer: id, generation, operation, .. } in asked {
            let config = self.world.config(id)?;
            let settings = &config.settings;
            match operation {
                Operation::Received { .. } => {}
                Operation::Finish { ack_ids, .. } => {
                    let reference = &mut self.watched(id).reference;
                    ack_ids.into_iter().for_each(|ack_id| reference.ack(ack_id));
                }
                Operation::Nack { ack_ids, delay } => {
                    let reference = &mut self.watched(id).reference;
                    for ack_id in ack_ids {
                        reference.nack(ack_id, delay, now, settings);
                    }
                }
                Operation::Redeliver { messages, ack_row_id } => {
                    let is_old = config.generation != generation;
                    for (seq, _) in messages {
                        self.expect_redelivered(id, seq, ack_row_id, is_old)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn expect_redelivered(
        &mut self,
        id: ConsumerId,
        seq: Seq,
        ack_row_id: AckRowId,
        is_old: bool,
    ) -> Checked {
        let config = self.world.config(id)?;
        let matches = self.world.now.messages.get(&seq).is_some_and(|m| config.matches(m.key));
        let finished_since = |(_, change): (&i64, &Change)| match change {
            Change::Finished { seqs } => seqs.contains(&seq),
            Change::Dead { item } => item.seq == seq,
            _ => false,
        };
        let unwritten = self.dispatcher.loaded.get(&id).into_iter().flat_map(|l| &l.unwritten);
        let unwritten = unwritten.map(|event| (&event.id, &event.change));
        let written = self.world.consumer(id)?.history.range(ack_row_id.0..);
        let is_raced =
            is_old || written.chain(unwritten.filter(|e| *e.0 > ack_row_id.0)).any(finished_since);
        let watched = self.watched(id);
        if watched.reference.is_finished(seq) {
            watched.reference.reopen(seq);
            if is_raced {
                watched.raced.insert(seq);
            }
            if !matches {
                watched.maybe.insert(seq);
            }
        }
        Ok(())
    }

    /// A transaction, or the part since a savepoint, rolled back: undoes what it asked for in the reference.
    pub fn expect_abort(&mut self, asked: Vec<Asked>) -> Checked {
        let now = self.now;
        for Asked { consumer: id, operation, .. } in asked.into_iter().rev() {
            let settings = self.world.config(id)?.settings;
            let reference = &mut self.watched(id).reference;
            match operation {
                Operation::Received { first_ack_id, count } => {
                    for ack_id in first_ack_id.and_above().take(count) {
                        reference.release(ack_id, now, &settings);
                    }
                }
                Operation::Finish { ack_ids, .. } | Operation::Nack { ack_ids, .. } => {
                    ack_ids.into_iter().for_each(|ack_id| reference.unpin(ack_id));
                }
                Operation::Redeliver { .. } => {}
            }
        }
        Ok(())
    }
}
