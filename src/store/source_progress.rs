//! `sequin.source_progress`: how far each source has come. Rows are inserted and deleted, never updated: so finding the
//! newest costs the same, however many dead rows vacuum can't remove.

use super::statement;
use crate::error::Result;
use crate::pg::exec::spi::{Access, Row, arg, lsn, timestamp};
use sequin_engine::settings::Micros;

/// The state of a source after some transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub id: i64,
    /// All transactions that end at or below it are in the stream.
    pub lsn: u64,
    /// Of the last transaction with a message; `None` before the first.
    pub commit_time: Option<Micros>,
    pub captured_total: i64,
}

statement!(
    NEWEST,
    "SELECT id, lsn, commit_time, captured_total FROM sequin.source_progress \
     WHERE source_id = $1 AND generation = $2 \
     ORDER BY source_id DESC, generation DESC, id DESC LIMIT 1",
    [INT4OID, INT4OID]
);
statement!(
    WRITE,
    "WITH gone AS ( \
        DELETE FROM sequin.source_progress WHERE source_id = $1 AND generation = $2 AND id = $3 - 1) \
     INSERT INTO sequin.source_progress (source_id, generation, id, lsn, commit_time, captured_total) \
     VALUES ($1, $2, $3, $4, $5, $6)",
    [INT4OID, INT4OID, INT8OID, PG_LSNOID, TIMESTAMPTZOID, INT8OID]
);
// The only live row of each source and generation is its newest. The search goes from the end of the index, since dead
// rows are before it.
statement!(
    SWEEP,
    "WITH RECURSIVE newest AS ( \
        (SELECT ctid AS place, source_id, generation FROM sequin.source_progress \
         ORDER BY source_id DESC, generation DESC, id DESC LIMIT 1) \
        UNION ALL \
        SELECT p.* FROM newest n CROSS JOIN LATERAL ( \
            SELECT ctid, source_id, generation FROM sequin.source_progress \
            WHERE (source_id, generation) < (n.source_id, n.generation) \
            ORDER BY source_id DESC, generation DESC, id DESC LIMIT 1) p) \
     DELETE FROM sequin.source_progress WHERE ctid = ANY (ARRAY( \
        SELECT ctid FROM sequin.source_progress WHERE ctid = ANY (ARRAY( \
            SELECT place FROM newest n WHERE NOT EXISTS ( \
                SELECT FROM sequin.sources s WHERE s.id = n.source_id AND s.generation <= n.generation))) \
        FOR UPDATE SKIP LOCKED))",
    []
);

/// The row in effect; `None` if the source has not started with this generation's slot.
pub fn newest(source: i32, generation: i32) -> Result<Option<Progress>> {
    let read = |row: Row| {
        Ok(Progress {
            id: row.need(1)?,
            lsn: row.lsn(2)?,
            commit_time: row.micros(3),
            captured_total: row.need(4)?,
        })
    };
    NEWEST.with(|s| {
        s.run(Access::Latest, &[arg(source), arg(generation)], |rows| {
            rows.first().map(read).transpose()
        })
    })
}

/// Writes a row, and deletes the one before it, whose place it takes.
pub fn write(source: i32, generation: i32, new: &Progress) -> Result<()> {
    let args = [
        arg(source),
        arg(generation),
        arg(new.id),
        lsn(new.lsn),
        new.commit_time.and_then(timestamp),
        arg(new.captured_total),
    ];
    WRITE.with(|s| s.execute(&args)).map(drop)
}

/// Deletes rows of dropped sources and of old generations. A dump contains no rows of this table, so rows without a
/// source never belong to one that is just being restored. Skips a row that a capturer's open transaction is replacing:
/// that transaction may be waiting for a user's lock.
pub fn sweep() -> Result<()> {
    SWEEP.with(|s| s.execute(&[])).map(drop)
}
