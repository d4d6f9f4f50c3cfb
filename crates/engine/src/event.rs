//! The events of a consumer, for the journal: replayed over the last checkpoint, they give the consumer's state.

use super::ids::AckId;
use super::key::{KeyId, Seq};
use super::settings::Micros;

/// One entry of the journal. `id` orders it among the others and among the rows of acks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: i64,
    pub change: Change,
}

/// A message of a batch. `deliveries` counts this delivery too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub seq: Seq,
    pub key: KeyId,
    pub deliveries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A batch was delivered: the item at position n has the ack_id `first_ack_id + n`. The leases end at `due`.
    Delivered { first_ack_id: AckId, due: Micros, items: Vec<Item> },
    /// A delivery ended without an ack; the message may be delivered again from `until` on.
    Returned { item: Item, until: Micros },
    /// A lease was extended.
    Extended { ack_id: AckId, seq: Seq, due: Micros },
    /// Messages are finished: acked, rejected, or gone from the stream's table.
    Finished { seqs: Vec<Seq> },
    /// Finished messages are to be delivered once more.
    Redelivered { seqs: Vec<Seq> },
    /// A message was delivered too often. The same transaction that writes this writes the dead letter.
    Dead { item: Item },
}

impl Change {
    /// False for values that no dispatcher writes. Events come from a table, and a role that may write it can put
    /// anything there: arithmetic on such values could overflow.
    pub fn is_possible(&self) -> bool {
        let are_seqs = |seqs: &[Seq]| seqs.iter().all(|&seq| seq > 0);
        match self {
            Change::Delivered { first_ack_id, items, .. } => {
                let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
                first_ack_id.0 > 0
                    && first_ack_id.0.checked_add(count).is_some()
                    && items.iter().all(|item| item.seq > 0)
            }
            Change::Returned { item, .. } | Change::Dead { item } => item.seq > 0,
            Change::Extended { seq, .. } => *seq > 0,
            Change::Finished { seqs } | Change::Redelivered { seqs } => are_seqs(seqs),
        }
    }
}
