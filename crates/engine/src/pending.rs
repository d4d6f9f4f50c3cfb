//! What open transactions have asked for: it is undone if they roll back, and takes effect when they commit.
//!
//! A session numbers its requests in ascending order and never reuses an id. A rollback to a savepoint voids the last
//! operations: all that were asked for since it was set, in it or in savepoints within it.

use super::consumer::{Consumer, StepContext};
use super::ids::{AckId, AckRowId, ConsumerId, RequestId};
use super::key::{KeyId, Seq};
use super::settings::Micros;

/// Access to the consumers that operations are about.
pub trait Consumers {
    /// `None` once it is dropped.
    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer>;
}

/// One thing that a transaction has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Messages were delivered to it: on rollback they become deliverable again at once.
    Received { first_ack_id: AckId, count: usize },
    /// It finishes deliveries, by a row of sequin.acks with this id; on rollback they are unpinned.
    Finish { ack_ids: Vec<AckId>, ack_row_id: AckRowId, rejected: bool },
    /// It nacks deliveries; on rollback they are unpinned.
    Nack { ack_ids: Vec<AckId>, delay: Option<Micros> },
    /// It wants finished messages once more, by a row of sequin.acks.
    Redeliver { messages: Vec<(Seq, KeyId)>, ack_row_id: AckRowId },
}

#[derive(Debug)]
struct Entry {
    request_id: RequestId,
    consumer: ConsumerId,
    operation: Operation,
}

/// The operations of one session's open transaction, in order.
#[derive(Debug, Default)]
pub struct PendingOperations {
    entries: Vec<Entry>,
}

/// A row of sequin.acks whose transaction has committed and which has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub consumer: ConsumerId,
    pub ack_row_id: AckRowId,
}

impl PendingOperations {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn add(&mut self, request_id: RequestId, consumer: ConsumerId, operation: Operation) {
        self.entries.push(Entry { request_id, consumer, operation });
    }

    pub fn is_about(&self, id: ConsumerId) -> bool {
        self.entries.iter().any(|entry| entry.consumer == id)
    }

    /// The rows of sequin.acks that the transaction writes, with their consumers. They exist if it commits.
    pub fn rows(&self) -> impl Iterator<Item = (ConsumerId, AckRowId)> {
        self.entries.iter().filter_map(|entry| match entry.operation {
            Operation::Finish { ack_row_id, .. } | Operation::Redeliver { ack_row_id, .. } => {
                Some((entry.consumer, ack_row_id))
            }
            Operation::Received { .. } | Operation::Nack { .. } => None,
        })
    }

    /// How many messages of a consumer are redelivered if it commits.
    pub fn to_redeliver(&self, of: ConsumerId) -> usize {
        let count = |entry: &Entry| match &entry.operation {
            Operation::Redeliver { messages, .. } if entry.consumer == of => messages.len(),
            _ => 0,
        };
        self.entries.iter().map(count).sum()
    }

    /// The transaction rolled back what it asked for from request `from` on.
    pub fn abort(
        &mut self,
        from: RequestId,
        consumers: &mut impl Consumers,
        context: &mut StepContext,
    ) {
        let kept = self.entries.partition_point(|entry| entry.request_id < from);
        // In reverse order: an ack is unpinned before the receive of the same delivery is undone.
        for entry in self.entries.drain(kept..).rev() {
            let Some(consumer) = consumers.consumer(entry.consumer) else { continue };
            match entry.operation {
                Operation::Received { first_ack_id, count } => {
                    for ack_id in first_ack_id.and_above().take(count) {
                        consumer.release(ack_id, context);
                    }
                }
                Operation::Finish { ack_ids, .. } | Operation::Nack { ack_ids, .. } => {
                    ack_ids.into_iter().for_each(|ack_id| consumer.unpin(ack_id));
                }
                Operation::Redeliver { .. } => {}
            }
        }
    }

    /// The transaction committed what it asked for up to request `upto`; later operations are the next one's. Returns
    /// the rows of sequin.acks it wrote.
    pub fn commit(
        &mut self,
        upto: RequestId,
        consumers: &mut impl Consumers,
        context: &mut StepContext,
    ) -> Vec<Applied> {
        let mut applied = Vec::new();
        let count = self.entries.partition_point(|entry| entry.request_id <= upto);
        for Entry { consumer: id, operation, .. } in self.entries.drain(..count) {
            if let Operation::Finish { ack_row_id, .. } | Operation::Redeliver { ack_row_id, .. } =
                operation
            {
                applied.push(Applied { consumer: id, ack_row_id });
            }
            // A consumer that was dropped meanwhile needs no change; one that was rewound knows none of these ack_ids.
            let Some(consumer) = consumers.consumer(id) else { continue };
            match operation {
                Operation::Received { .. } => {}
                Operation::Finish { ack_ids, rejected, .. } => {
                    let done = ack_ids.into_iter().filter(|&id| consumer.finish(id)).count();
                    let done = i64::try_from(done).unwrap_or(i64::MAX);
                    consumer.count_finished(
                        if rejected { 0 } else { done },
                        if rejected { done } else { 0 },
                    );
                }
                Operation::Nack { ack_ids, delay } => {
                    ack_ids.into_iter().for_each(|ack_id| consumer.nack(ack_id, delay, context));
                }
                Operation::Redeliver { messages, .. } => {
                    for (seq, key) in messages {
                        consumer.redeliver(seq, key);
                    }
                }
            }
        }
        applied
    }
}
