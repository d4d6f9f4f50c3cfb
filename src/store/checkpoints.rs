//! `sequin.checkpoints`: the state of each consumer. Rows are inserted and deleted, never updated: so finding the
//! newest costs the same, however many dead rows vacuum can't remove.

use super::{acks, outbox, statement};
use crate::error::{Error, Result};
use crate::pg::exec::spi::{Access, Row, arg};
use sequin_engine::consumer_state::{ConsumerState, Hold};
use sequin_engine::dispatcher::{Checkpoint, Lease};
use sequin_engine::event::Item;
use sequin_engine::ids::{AckId, AckRowId, ConsumerId, Generation};
use sequin_engine::key::Seq;
use sequin_engine::ranges::RangeSet;
use sequin_engine::settings::Micros;

statement!(
    INSERT,
    "INSERT INTO sequin.checkpoints \
        (consumer_id, id, generation, floor, done, seqs, keys, deliveries, ack_ids, due, \
         acked_total, redelivered_total, dead_total, open_acks) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    [
        INT4OID,
        INT8OID,
        INT4OID,
        INT8OID,
        INT8ARRAYOID,
        INT8ARRAYOID,
        INT8ARRAYOID,
        INT4ARRAYOID,
        INT8ARRAYOID,
        INT8ARRAYOID,
        INT8OID,
        INT8OID,
        INT8OID,
        INT8ARRAYOID
    ]
);
statement!(
    NEWEST,
    "SELECT id, generation, floor, done, seqs, keys, deliveries, ack_ids, due, \
        acked_total, redelivered_total, dead_total, open_acks \
     FROM sequin.checkpoints WHERE consumer_id = $1 ORDER BY consumer_id DESC, id DESC LIMIT 1",
    [INT4OID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.checkpoints WHERE consumer_id = $1 AND id = $2",
    [INT4OID, INT8OID]
);

/// Writes a consumer's state.
pub fn insert(consumer: ConsumerId, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { id, generation, ref state, ref open_acks } = *checkpoint;
    let active: Vec<&(Item, Hold)> = state.active.values().collect();
    let (mut ack_ids, mut due) = (Vec::new(), Vec::new());
    for (_, hold) in &active {
        let (ack_id, until) = match hold {
            Hold::InFlight(lease) => (lease.ack_id.0, lease.due),
            Hold::Until(until) => (0, *until),
        };
        ack_ids.push(ack_id);
        due.push(until);
    }
    let args = [
        arg(consumer.0),
        arg(id),
        arg(generation.0),
        arg(state.floor),
        arg(state.done.to_pairs()),
        arg(active.iter().map(|(item, _)| item.seq).collect::<Vec<Seq>>()),
        arg(active.iter().map(|(item, _)| item.key.cast_signed()).collect::<Vec<i64>>()),
        arg(active.iter().map(|(item, _)| item.deliveries.cast_signed()).collect::<Vec<i32>>()),
        arg(ack_ids),
        arg(due),
        arg(state.acked_total),
        arg(state.redelivered_total),
        arg(state.dead_total),
        arg(open_acks.iter().map(|row| row.0).collect::<Vec<i64>>()),
    ];
    INSERT.with(|s| s.execute(&args)).map(drop)
}

/// The newest checkpoint of a consumer, of whatever generation.
pub fn newest(consumer: ConsumerId) -> Result<Option<Checkpoint>> {
    NEWEST.with(|s| {
        s.run(Access::Latest, &[arg(consumer.0)], |rows| {
            rows.first().map(|row| read(&row)).transpose()
        })
    })
}

fn read(row: &Row) -> Result<Checkpoint> {
    let seqs: Vec<Seq> = row.need(5)?;
    let keys: Vec<i64> = row.need(6)?;
    let deliveries: Vec<i32> = row.need(7)?;
    let ack_ids: Vec<i64> = row.need(8)?;
    let due: Vec<Micros> = row.need(9)?;
    let active = (seqs.into_iter().zip(keys).zip(deliveries))
        .zip(ack_ids.into_iter().zip(due))
        .map(|(((seq, key), n), (ack_id, due))| {
            let item = Item { seq, key: key.cast_unsigned(), deliveries: n.cast_unsigned() };
            let hold = match ack_id {
                0 => Hold::Until(due),
                _ => Hold::InFlight(Lease { ack_id: AckId(ack_id), due, holder: 0, pinned: false }),
            };
            (seq, (item, hold))
        });
    let done: Vec<Seq> = row.need(4)?;
    let open_acks: Vec<i64> = row.need(13)?;
    Ok(Checkpoint {
        id: row.need(1)?,
        generation: Generation(row.need(2)?),
        state: ConsumerState {
            floor: row.need(3)?,
            done: ranges(&done)?,
            active: active.collect(),
            acked_total: row.need(10)?,
            redelivered_total: row.need(11)?,
            dead_total: row.need(12)?,
        },
        open_acks: open_acks.into_iter().map(AckRowId).collect(),
    })
}

/// The set of ranges that a table has as pairs of first and last seq.
pub fn ranges(pairs: &[Seq]) -> Result<RangeSet> {
    RangeSet::from_pairs(pairs).map_err(|error| Error::Internal(error.to_string()))
}

pub fn delete(consumer: ConsumerId, id: i64) -> Result<()> {
    DELETE.with(|s| s.execute(&[arg(consumer.0), arg(id)])).map(drop)
}

/// Deletes the rows of a dropped consumer from the journals. That rows have no consumer doesn't prove that it was
/// dropped: a dump may just be being restored, and the consumers follow.
pub fn forget(consumer: ConsumerId) -> Result<()> {
    let newest = newest(consumer)?;
    let (after, open_acks) = newest.map_or((0, Vec::new()), |newest| (newest.id, newest.open_acks));
    delete(consumer, after)?;
    outbox::delete(consumer, after, i64::MAX)?;
    let open_acks = open_acks.into_iter().chain([acks::GONE]).map(|row| (row, row));
    acks::delete(
        consumer,
        &open_acks.chain([(AckRowId(after + 1), AckRowId(i64::MAX))]).collect::<Vec<_>>(),
    )
}
