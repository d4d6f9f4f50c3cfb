//! `sequin.backfills`: which tables' existing rows are to be read, and how far each backfill has come.

use super::statement;
use crate::error::{Error, Result};
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Row, Statement, arg};
use pgrx::pg_sys;

/// A backfill, as the capturer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: i64,
    pub tbl: pg_sys::Oid,
    /// See [`crate::pg::exec::condition`].
    pub condition: Option<String>,
    /// Reads the table as this role.
    pub owner: pg_sys::Oid,
    /// The key of the last row that was written.
    pub last_key: Option<Vec<String>>,
    /// The key's definition at that time: see [`super::chunks::Target::key_version`].
    pub key_version: Option<String>,
}

/// How a backfill has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    Failed,
    /// There is nothing left to read.
    Cancelled,
}

statement!(
    NEXT,
    "SELECT id, tbl, condition, owner::oid, last_key, key_version FROM sequin.backfills \
     WHERE source = $1 AND status IN ('pending', 'running') \
     ORDER BY status = 'running' DESC, id LIMIT 1",
    [TEXTOID]
);
// A transaction updates the row only once. A second update would check the foreign key, and so wait for a transaction
// that drops the source, which in turn waits for this row.
statement!(
    START,
    "UPDATE sequin.backfills b SET status = 'running', last_key = $2, rows_read = b.rows_read + $3, key_version = $4 \
     FROM (SELECT id FROM sequin.backfills WHERE id = $1 AND status = 'pending' \
           FOR NO KEY UPDATE SKIP LOCKED) mine \
     WHERE b.id = mine.id",
    [INT8OID, TEXTARRAYOID, INT8OID, TEXTOID]
);
statement!(
    PROGRESS,
    "UPDATE sequin.backfills b SET last_key = $2, rows_read = b.rows_read + $3, key_version = $4 \
     FROM (SELECT id FROM sequin.backfills WHERE id = $1 AND status = 'running' \
           FOR NO KEY UPDATE SKIP LOCKED) mine \
     WHERE b.id = mine.id",
    [INT8OID, TEXTARRAYOID, INT8OID, TEXTOID]
);
statement!(
    FINISH,
    "UPDATE sequin.backfills b SET status = $2, error = $3, finished_at = clock_timestamp() \
     FROM (SELECT id FROM sequin.backfills WHERE id = $1 AND status IN ('pending', 'running') \
           FOR NO KEY UPDATE SKIP LOCKED) mine \
     WHERE b.id = mine.id",
    [INT8OID, TEXTOID, TEXTOID]
);
statement!(
    INSERT,
    "INSERT INTO sequin.backfills (source, tbl, condition, owner) VALUES ($1, $2, $3, $4::regrole) \
     RETURNING id",
    [TEXTOID, OIDOID, TEXTOID, OIDOID]
);
statement!(SOURCE, "SELECT source FROM sequin.backfills WHERE id = $1", [INT8OID]);
statement!(
    CANCEL,
    "UPDATE sequin.backfills SET status = 'cancelled', finished_at = clock_timestamp() \
     WHERE id = $1 AND status IN ('pending', 'running', 'failed')",
    [INT8OID]
);
statement!(
    CANCEL_OTHERS,
    "UPDATE sequin.backfills SET status = 'cancelled', finished_at = clock_timestamp() \
     WHERE source = $1 AND status IN ('pending', 'running', 'failed') AND tbl <> ALL ($2)",
    [TEXTOID, OIDARRAYOID]
);
statement!(
    CANCEL_ALL,
    "UPDATE sequin.backfills SET status = 'cancelled', finished_at = clock_timestamp() \
     WHERE source = $1 AND status IN ('pending', 'running', 'failed')",
    [TEXTOID]
);

/// The backfill of a source that is next: the running one, else the first that was asked for.
pub fn next(source: &str) -> Result<Option<Job>> {
    let read = |row: Row| {
        Ok(Job {
            id: row.need(1)?,
            tbl: row.need(2)?,
            condition: row.get(3)?,
            owner: row.need(4)?,
            last_key: row.get(5)?,
            key_version: row.get(6)?,
        })
    };
    NEXT.with(|s| s.run(Access::Latest, &[arg(source)], |rows| rows.first().map(read).transpose()))
}

/// Notes a chunk that this transaction writes: its last key and its number of rows. False if the chunk must not be
/// written: the backfill was cancelled, or an open transaction has cancelled it and may commit.
pub fn progress(id: i64, last_key: Vec<String>, key_version: &str, rows: i64) -> Result<bool> {
    let args = [arg(id), arg(last_key), arg(rows), arg(key_version)];
    Ok(PROGRESS.with(|s| s.execute(&args))? > 0 || START.with(|s| s.execute(&args))? > 0)
}

/// Ends a backfill. False as for [`progress`].
pub fn finish(id: i64, end: End, error: Option<&str>) -> Result<bool> {
    let status = match end {
        End::Done => "done",
        End::Failed => "failed",
        End::Cancelled => "cancelled",
    };
    FINISH.with(|s| s.execute(&[arg(id), arg(status), error.and_then(arg)])).map(|n| n > 0)
}

/// Inserts a backfill and returns its id. It will read as the current role.
pub fn insert(source: &str, tbl: pg_sys::Oid, condition: Option<&str>) -> Result<i64> {
    let args = [arg(source), arg(tbl), condition.and_then(arg), arg(role::current())];
    let run = |s: &Statement| s.run(Access::Write, &args, |rows| rows.one()?.need(1));
    role::as_owner_in_pg_catalog(|| INSERT.with(run))
}

/// The source of a backfill that must exist.
pub fn source(id: i64) -> Result<String> {
    let missing = || Error::NoBackfill(id);
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(id)], |rows| rows.first().ok_or_else(missing)?.need(1))
    };
    role::as_owner_in_pg_catalog(|| SOURCE.with(run))
}

/// Cancels a backfill; false if it has ended already. A failed one becomes a cancelled one.
pub fn cancel(id: i64) -> Result<bool> {
    role::as_owner_in_pg_catalog(|| CANCEL.with(|s| s.execute(&[arg(id)]))).map(|n| n > 0)
}

/// Cancels the backfills of a source that read other tables than these.
pub fn cancel_others(source: &str, tables: Vec<pg_sys::Oid>) -> Result<()> {
    let args = [arg(source), arg(tables)];
    role::as_owner_in_pg_catalog(|| CANCEL_OTHERS.with(|s| s.execute(&args))).map(drop)
}

/// Cancels all backfills of a source that are not done.
pub fn cancel_all(source: &str) -> Result<()> {
    role::as_owner_in_pg_catalog(|| CANCEL_ALL.with(|s| s.execute(&[arg(source)]))).map(drop)
}
