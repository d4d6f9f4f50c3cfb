//! `sequin.acks`: the messages that transactions have finished, or want delivered again. Sessions write rows, the
//! dispatcher deletes them.

use super::{insert_rows, statement};
use crate::error::Result;
use crate::pg::exec::spi::{Access, Row, arg, letter};
use crate::pg::exec::{array, role};
use sequin_engine::dispatcher::AckRow;
use sequin_engine::event::Change;
use sequin_engine::ids::{AckRowId, ConsumerId, Generation};
use sequin_engine::key::Seq;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Acked = b'a' as isize,
    Rejected = b'x' as isize,
    Redelivered = b'r' as isize,
}

statement!(
    INSERT,
    "INSERT INTO sequin.acks (consumer_id, id, generation, kind, seqs) VALUES ($1, $2, $3, $4, $5)",
    [INT4OID, INT8OID, INT4OID, CHAROID, INT8ARRAYOID]
);
statement!(
    OF_CONSUMER,
    "SELECT id, generation, kind::text, seqs FROM sequin.acks \
     WHERE consumer_id = $1 AND id >= $2 AND id <= $3",
    [INT4OID, INT8OID, INT8OID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.acks WHERE consumer_id = $1 AND id >= $2 AND id <= $3",
    [INT4OID, INT8OID, INT8OID]
);
statement!(DROPPED, "SELECT consumer_id FROM sequin.acks WHERE kind = 'g'", []);

/// The id of the row that says that a consumer was dropped.
pub const GONE: AckRowId = AckRowId(0);

/// A row, in the caller's transaction: it counts if and only if that commits.
pub fn insert(
    consumer: ConsumerId,
    id: AckRowId,
    generation: Generation,
    kind: Kind,
    seqs: &[Seq],
) -> Result<()> {
    let (id, generation) = (arg(id.0), arg(generation.0));
    let row = [arg(consumer.0), id, generation, letter(kind as u8), array::bigints(seqs)];
    role::as_owner(|| insert_rows(c"acks", &[row], &INSERT))
}

/// The rows that a checkpoint with the id `after` does not contain: later ones, and those that were `open` then. Dead
/// rows before it, of which there may be many millions, are not read.
pub fn of_consumer(consumer: ConsumerId, after: i64, open: &[AckRowId]) -> Result<Vec<AckRow>> {
    let ranges = open.iter().map(|row| (row.0, row.0)).chain([(after + 1, i64::MAX)]);
    let mut all = Vec::new();
    for (from, to) in ranges {
        all.extend(OF_CONSUMER.with(|s| {
            s.run(Access::Latest, &[arg(consumer.0), arg(from), arg(to)], |rows| {
                rows.iter().map(|row| read(&row)).collect::<Result<Vec<AckRow>>>()
            })
        })?);
    }
    Ok(all)
}

fn read(row: &Row) -> Result<AckRow> {
    let seqs: Vec<Seq> = row.need(4)?;
    let (rejected, change) = match row.need::<String>(3)?.as_str() {
        "r" => (false, Change::Redelivered { seqs }),
        "x" => (true, Change::Finished { seqs }),
        _ => (false, Change::Finished { seqs }),
    };
    let (id, generation) = (AckRowId(row.need(1)?), Generation(row.need(2)?));
    Ok(AckRow { id, generation, rejected, change })
}

/// Deletes rows that a checkpoint contains, given as ranges of ids. Not as a list of ids: if the planner takes the
/// table for empty, it filters all rows of the consumer by such a list.
pub fn delete(consumer: ConsumerId, ranges: &[(AckRowId, AckRowId)]) -> Result<()> {
    ranges.iter().try_for_each(|&(from, to)| {
        DELETE.with(|s| s.execute(&[arg(consumer.0), arg(from.0), arg(to.0)])).map(drop)
    })
}

/// Consumers that were dropped, and whose rows are still there.
pub fn dropped() -> Result<Vec<ConsumerId>> {
    DROPPED.with(|s| {
        s.run(Access::Latest, &[], |rows| {
            rows.iter().map(|row| row.need(1).map(ConsumerId)).collect()
        })
    })
}
