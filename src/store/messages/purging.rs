//! Deleting messages as the caller.

use crate::error::Result;
use crate::pg::exec::spi::{Access, Plan, arg, connected, timestamp};
use pgrx::pg_sys;
use sequin_engine::key::Seq;

/// Deletes messages with a lower seq, and that were inserted earlier; one of the two must be given. Returns how many. It is a
/// command by the caller, so SQL checks the caller's rights.
pub fn purge(stream: &str, before_seq: Option<Seq>, before_time: Option<i64>) -> Result<usize> {
    let mut conditions = Vec::new();
    if before_seq.is_some() {
        conditions.push("seq OPERATOR(pg_catalog.<) $1");
    }
    if before_time.is_some() {
        conditions.push("inserted_at OPERATOR(pg_catalog.<) $2");
    }
    let sql = format!("DELETE FROM sequin_stream.\"{stream}\" WHERE {}", conditions.join(" AND "));
    let args = [before_seq.and_then(arg), before_time.and_then(timestamp)];
    connected(|| {
        let plan = Plan::new(&sql, &[pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID])?;
        Ok(plan.execute(Access::Write, &args)?.processed)
    })
}
