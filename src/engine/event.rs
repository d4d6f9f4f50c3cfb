//! What a consumer did, for the journal: replayed over the last snapshot it gives the same state again.

use super::key::{KeyId, Seq};
use super::settings::Micros;

/// One entry of the journal. `id` orders it among the others and among the rows of acks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: i64,
    pub change: Change,
}

/// One message of a batch: what it is, and the how-manieth delivery this was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub seq: Seq,
    pub key: KeyId,
    pub deliveries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A batch was handed out: the n-th item under ack_id `first_ack_id + n`, leased until `due`.
    Delivered { first_ack_id: i64, due: Micros, items: Vec<Item> },
    /// A delivery ended without an ack; the message may be delivered again from `until` on.
    Returned { item: Item, until: Micros },
    /// A lease was extended.
    Extended { ack_id: i64, seq: Seq, due: Micros },
    /// Messages are finished: acked, rejected, or gone from the stream's table.
    Finished { seqs: Vec<Seq> },
    /// Finished messages are wanted once more.
    Redelivered { seqs: Vec<Seq> },
    /// A message was delivered too often. The same transaction that writes this writes the dead letter.
    Dead { item: Item },
}
