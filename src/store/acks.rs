//! `sequin.acks`: what transactions have finished, or want again. A session writes, the dispatcher deletes.

use super::{put, statement};
use crate::error::Result;
use crate::pg::exec::spi::{Access, Row, arg, letter};
use crate::pg::exec::{array, role};
use sequin_engine::dispatcher::AckRow;
use sequin_engine::event::Change;
use sequin_engine::key::Seq;
use sequin_engine::stream::ConsumerId;

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
pub const GONE: i64 = 0;

/// A row, in the caller's transaction: it counts if and only if that commits.
pub fn insert(
    consumer: ConsumerId,
    id: i64,
    generation: i32,
    kind: Kind,
    seqs: &[Seq],
) -> Result<()> {
    let row = [arg(consumer), arg(id), arg(generation), letter(kind as u8), array::bigints(seqs)];
    role::as_owner(|| put(c"acks", &[row], &INSERT))
}

/// The rows that a checkpoint with the id `after` does not contain: later ones, and those that were `open` then. The
/// dead ones before it, which may be many millions, are not looked at.
pub fn of_consumer(consumer: ConsumerId, after: i64, open: &[i64]) -> Result<Vec<AckRow>> {
    let ranges = open.iter().map(|&row| (row, row)).chain([(after + 1, i64::MAX)]);
    let mut all = Vec::new();
    for (from, to) in ranges {
        all.extend(OF_CONSUMER.with(|s| {
            s.run(Access::Latest, &[arg(consumer), arg(from), arg(to)], |rows| {
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
    Ok(AckRow { id: row.need(1)?, generation: row.need(2)?, rejected, change })
}

/// Rows that are part of a checkpoint now, as ranges of ids. Not as a list: where the planner takes the table for
/// empty, it looks for a list among all rows of the consumer.
pub fn delete(consumer: ConsumerId, ranges: &[(i64, i64)]) -> Result<()> {
    ranges.iter().try_for_each(|&(from, to)| {
        DELETE.with(|s| s.execute(&[arg(consumer), arg(from), arg(to)])).map(drop)
    })
}

/// Consumers that were dropped, and whose rows nobody has deleted yet.
pub fn dropped() -> Result<Vec<ConsumerId>> {
    DROPPED
        .with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(|row| row.need(1)).collect()))
}
