//! What open transactions hold: taken back if they roll back, made final when they commit.
//!
//! A session numbers its claims upwards and never reuses a number. A savepoint that rolls back voids a
//! suffix of them: everything claimed since it was set, in it or in savepoints within it.

use super::consumer::{Consumer, Moment};
use super::key::{KeyId, Seq};
use super::settings::Micros;
use super::stream::ConsumerId;

/// Where claims find the consumers they are about.
pub trait Consumers {
    /// `None` once it is dropped.
    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer>;
}

/// One thing that a transaction has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Messages were handed to it: on rollback they go back at once.
    Received { first_ack_id: i64, count: usize },
    /// It finishes deliveries, by a row of sequin.acks with this id; on rollback they are unpinned.
    Finish { ack_ids: Vec<i64>, row: i64, rejected: bool },
    /// It gives deliveries back; on rollback they are unpinned.
    Nack { ack_ids: Vec<i64>, delay: Option<Micros> },
    /// It wants finished messages once more, by a row of sequin.acks.
    Redeliver { messages: Vec<(Seq, KeyId)>, row: i64 },
}

#[derive(Debug)]
struct Entry {
    number: u64,
    consumer: ConsumerId,
    claim: Claim,
}

/// The claims of one session's open transaction, in order.
#[derive(Debug, Default)]
pub struct Claims {
    entries: Vec<Entry>,
}

/// A row of sequin.acks whose transaction has committed and which has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub consumer: ConsumerId,
    pub row: i64,
}

impl Claims {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn add(&mut self, number: u64, consumer: ConsumerId, claim: Claim) {
        self.entries.push(Entry { number, consumer, claim });
    }

    /// The rows of sequin.acks that it has, or will have, written if it commits, with their consumers.
    pub fn rows(&self) -> impl Iterator<Item = (ConsumerId, i64)> {
        self.entries.iter().filter_map(|entry| match entry.claim {
            Claim::Finish { row, .. } | Claim::Redeliver { row, .. } => Some((entry.consumer, row)),
            Claim::Received { .. } | Claim::Nack { .. } => None,
        })
    }

    /// How many messages of a consumer will come back if it commits.
    pub fn to_redeliver(&self, of: ConsumerId) -> usize {
        let count = |entry: &Entry| match &entry.claim {
            Claim::Redeliver { messages, .. } if entry.consumer == of => messages.len(),
            _ => 0,
        };
        self.entries.iter().map(count).sum()
    }

    /// The transaction rolled back what it claimed from number `from` on.
    pub fn abort(&mut self, from: u64, consumers: &mut impl Consumers, m: &mut Moment) {
        let kept = self.entries.partition_point(|entry| entry.number < from);
        // Last first: an ack is unpinned before the receive it belongs to is undone.
        for entry in self.entries.drain(kept..).rev() {
            let Some(consumer) = consumers.consumer(entry.consumer) else { continue };
            match entry.claim {
                Claim::Received { first_ack_id, count } => {
                    for ack_id in (first_ack_id..).take(count) {
                        consumer.release(ack_id, m);
                    }
                }
                Claim::Finish { ack_ids, .. } | Claim::Nack { ack_ids, .. } => {
                    ack_ids.into_iter().for_each(|ack_id| consumer.unpin(ack_id));
                }
                Claim::Redeliver { .. } => {}
            }
        }
    }

    /// The transaction committed what it claimed up to number `upto`; later claims are the next one's. Returns the rows of
    /// sequin.acks it wrote.
    pub fn commit(
        &mut self,
        upto: u64,
        consumers: &mut impl Consumers,
        m: &mut Moment,
    ) -> Vec<Applied> {
        let mut applied = Vec::new();
        let count = self.entries.partition_point(|entry| entry.number <= upto);
        for Entry { consumer: id, claim, .. } in self.entries.drain(..count) {
            if let Claim::Finish { row, .. } | Claim::Redeliver { row, .. } = claim {
                applied.push(Applied { consumer: id, row });
            }
            // A consumer dropped meanwhile wants nothing; one rewound knows none of these ack_ids.
            let Some(consumer) = consumers.consumer(id) else { continue };
            match claim {
                Claim::Received { .. } => {}
                Claim::Finish { ack_ids, rejected, .. } => {
                    let done = ack_ids.into_iter().filter(|&id| consumer.finish(id)).count();
                    let done = i64::try_from(done).unwrap_or(i64::MAX);
                    consumer.count_finished(
                        if rejected { 0 } else { done },
                        if rejected { done } else { 0 },
                    );
                }
                Claim::Nack { ack_ids, delay } => {
                    ack_ids.into_iter().for_each(|ack_id| consumer.nack(ack_id, delay, m));
                }
                Claim::Redeliver { messages, .. } => {
                    for (seq, key) in messages {
                        consumer.redeliver(seq, key);
                    }
                }
            }
        }
        applied
    }
}
