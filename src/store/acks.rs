//! `sequin.acks`: what transactions have finished, or want again. A session writes, the dispatcher deletes.

use super::statement;
use crate::engine::event::Change;
use crate::engine::key::Seq;
use crate::engine::stream::ConsumerId;
use crate::error::Result;
use crate::pg::role;
use crate::pg::spi::{Access, arg, letter};

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
    "SELECT id, kind::text, seqs FROM sequin.acks WHERE consumer_id = $1 AND generation = $2",
    [INT4OID, INT4OID]
);
statement!(
    DELETE,
    "DELETE FROM sequin.acks WHERE consumer_id = $1 AND id = ANY ($2)",
    [INT4OID, INT8ARRAYOID]
);
statement!(
    DELETE_OLD,
    "DELETE FROM sequin.acks WHERE consumer_id = $1 AND generation < $2",
    [INT4OID, INT4OID]
);
statement!(DROPPED, "SELECT consumer_id FROM sequin.acks WHERE kind = 'g'", []);

/// A row, in the caller's transaction: it counts if and only if that commits.
pub fn insert(
    consumer: ConsumerId,
    id: i64,
    generation: i32,
    kind: Kind,
    seqs: Vec<Seq>,
) -> Result<()> {
    let args = [arg(consumer), arg(id), arg(generation), letter(kind as u8), arg(seqs)];
    role::as_owner(|| INSERT.with(|s| s.execute(&args))).map(drop)
}

/// The rows that are not part of a checkpoint yet, with their ids.
pub fn of_consumer(consumer: ConsumerId, generation: i32) -> Result<Vec<(i64, Change, Kind)>> {
    OF_CONSUMER.with(|s| {
        s.run(Access::Latest, &[arg(consumer), arg(generation)], |rows| {
            let read = |row: crate::pg::spi::Row| {
                let seqs: Vec<Seq> = row.need(3)?;
                let (kind, change) = match row.need::<String>(2)?.as_str() {
                    "r" => (Kind::Redelivered, Change::Redelivered { seqs }),
                    "x" => (Kind::Rejected, Change::Finished { seqs }),
                    _ => (Kind::Acked, Change::Finished { seqs }),
                };
                Ok((row.need(1)?, change, kind))
            };
            rows.iter().map(read).collect()
        })
    })
}

/// Rows that are part of a checkpoint now.
pub fn delete(consumer: ConsumerId, ids: Vec<i64>) -> Result<()> {
    DELETE.with(|s| s.execute(&[arg(consumer), arg(ids)])).map(drop)
}

/// Rows of generations before this one, which count no more.
pub fn delete_before(consumer: ConsumerId, generation: i32) -> Result<()> {
    DELETE_OLD.with(|s| s.execute(&[arg(consumer), arg(generation)])).map(drop)
}

/// Consumers that were dropped, and whose rows nobody has deleted yet.
pub fn dropped() -> Result<Vec<ConsumerId>> {
    DROPPED
        .with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(|row| row.need(1)).collect()))
}
