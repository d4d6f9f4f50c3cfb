//! What a consumer promises, in the simplest form: a message is finished or not; some of the unfinished ones are
//! leased, or wait for a time. There are no cursors, ranges, lanes or snapshots here.

use crate::event::Change;
use crate::ids::AckId;
use crate::key::Seq;
use crate::settings::{Micros, Settings};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    pub seq: Seq,
    pub due: Micros,
    pub pinned: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    start: Seq,
    /// Finished messages above the start. Below it, all are finished but the reopened ones.
    finished: BTreeSet<Seq>,
    reopened: BTreeSet<Seq>,
    /// How often an unfinished message was delivered.
    pub deliveries: BTreeMap<Seq, u32>,
    pub leases: BTreeMap<AckId, Lease>,
    pub delays: BTreeMap<Seq, Micros>,
    /// Messages that must be reported as dead letters in this step.
    pub dying: BTreeSet<Seq>,
}

impl Reference {
    pub fn new(start: Seq) -> Reference {
        Reference { start, ..Reference::default() }
    }

    /// The state that a journal describes.
    pub fn of_history(start: Seq, history: &BTreeMap<i64, Change>) -> Reference {
        let mut reference = Reference::new(start);
        history.values().for_each(|change| reference.replay(change));
        reference
    }

    pub fn is_finished(&self, seq: Seq) -> bool {
        if seq > self.start { self.finished.contains(&seq) } else { !self.reopened.contains(&seq) }
    }

    pub fn finish(&mut self, seq: Seq) {
        self.end_lease_or_delay(seq);
        self.deliveries.remove(&seq);
        if seq > self.start {
            self.finished.insert(seq);
        } else {
            self.reopened.remove(&seq);
        }
    }

    /// Makes a finished message unfinished again.
    pub fn reopen(&mut self, seq: Seq) {
        if self.is_finished(seq) {
            if seq > self.start {
                self.finished.remove(&seq);
            } else {
                self.reopened.insert(seq);
            }
        }
    }

    pub fn deliver(&mut self, ack_id: AckId, seq: Seq, due: Micros) {
        *self.deliveries.entry(seq).or_insert(0) += 1;
        self.leases.insert(ack_id, Lease { seq, due, pinned: false });
    }

    pub fn lease_of(&self, seq: Seq) -> Option<&Lease> {
        self.leases.values().find(|lease| lease.seq == seq)
    }

    pub fn pin(&mut self, ack_id: AckId) -> Option<(Seq, u32)> {
        let lease = self.leases.get_mut(&ack_id).filter(|lease| !lease.pinned)?;
        lease.pinned = true;
        Some((lease.seq, self.deliveries[&lease.seq]))
    }

    pub fn unpin(&mut self, ack_id: AckId) {
        if let Some(lease) = self.leases.get_mut(&ack_id) {
            lease.pinned = false;
        }
    }

    pub fn extend(&mut self, ack_id: AckId, due: Micros) -> bool {
        self.leases.get_mut(&ack_id).is_some_and(|lease| {
            lease.due = due;
            true
        })
    }

    pub fn ack(&mut self, ack_id: AckId) {
        if let Some(lease) = self.leases.remove(&ack_id) {
            self.finish(lease.seq);
        }
    }

    pub fn nack(&mut self, ack_id: AckId, delay: Option<Micros>, now: Micros, settings: &Settings) {
        if let Some(lease) = self.leases.remove(&ack_id) {
            self.release_after(lease.seq, delay, now, settings);
        }
    }

    /// What the receiver's rollback does: it doesn't undo another transaction's ack.
    pub fn release(&mut self, ack_id: AckId, now: Micros, settings: &Settings) {
        match self.leases.get_mut(&ack_id) {
            Some(lease) if lease.pinned => lease.due = now,
            _ => self.nack(ack_id, Some(0), now, settings),
        }
    }

    pub fn tick(&mut self, now: Micros, settings: &Settings) {
        self.delays.retain(|_, until| *until > now);
        let is_over = |lease: &Lease| !lease.pinned && lease.due <= now;
        let over = self.leases.iter().filter(|(_, lease)| is_over(lease));
        let over: Vec<AckId> = over.map(|(&ack_id, _)| ack_id).collect();
        over.into_iter().for_each(|ack_id| self.nack(ack_id, None, now, settings));
    }

    /// A restart unpins: the transactions that had pinned can't commit.
    pub fn unpin_all(&mut self) {
        self.leases.values_mut().for_each(|lease| lease.pinned = false);
    }

    fn release_after(&mut self, seq: Seq, delay: Option<Micros>, now: Micros, settings: &Settings) {
        let nth = self.deliveries[&seq];
        if settings.max_deliver.is_some_and(|max| nth >= max) {
            self.dying.insert(seq);
            return self.finish(seq);
        }
        let backoff = &settings.backoff;
        let by_backoff = backoff.iter().take(nth as usize).next_back().copied().unwrap_or(0);
        let wait = delay.unwrap_or(by_backoff);
        if wait > 0 {
            self.delays.insert(seq, now + wait);
        }
    }

    fn end_lease_or_delay(&mut self, seq: Seq) {
        self.leases.retain(|_, lease| lease.seq != seq);
        self.delays.remove(&seq);
    }

    fn replay(&mut self, change: &Change) {
        match change {
            Change::Delivered { first_ack_id, due, items } => {
                for (ack_id, item) in first_ack_id.and_above().zip(items) {
                    self.reopen(item.seq);
                    self.end_lease_or_delay(item.seq);
                    self.deliveries.insert(item.seq, item.deliveries - 1);
                    self.deliver(ack_id, item.seq, *due);
                }
            }
            Change::Returned { item, until } => {
                self.end_lease_or_delay(item.seq);
                if *until > 0 {
                    self.delays.insert(item.seq, *until);
                }
            }
            Change::Extended { ack_id, due, .. } => {
                self.extend(*ack_id, *due);
            }
            Change::Finished { seqs } => seqs.iter().for_each(|&seq| self.finish(seq)),
            Change::Dead { item } => self.finish(item.seq),
            Change::Redelivered { seqs } => seqs.iter().for_each(|&seq| self.reopen(seq)),
        }
    }
}
