//! Inserting messages into a stream's table without the executor, if the table is as create_stream has made it.

use super::datum::{Jsonb, Text};
use super::insert::{Opened, Target};
use super::scan;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use sequin_engine::key::{self, Seq};
use std::ffi::CStr;

/// A message that is to be inserted.
pub struct New {
    pub seq: Seq,
    pub key: Text,
    pub data: Jsonb,
    pub headers: Option<Jsonb>,
}

/// Inserts messages as the current role. Does nothing and returns false if the table has anything that only the
/// executor handles. The caller must have announced that it publishes (`session::publish::announce`), as the table's
/// trigger would.
pub fn insert(table: pg_sys::Oid, messages: impl FnOnce() -> Result<Vec<New>>) -> Result<bool> {
    let target = match Target::open(table, &scan::COLUMNS, Some(c"on_publish")) {
        Opened::Plain(target) if has_own_default(&target) => target,
        Opened::Plain(_) | Opened::ForTheExecutor => return Ok(false),
        Opened::Missing => return Err(Error::NoStream(super::catalog::relation_name(table))),
    };
    let has_checks = has_checks(&target, table);
    let now = Some(pg_sys::Datum::from(crate::pg::now()));
    let mut rows = Vec::new();
    for New { seq, key, data, headers } in messages()? {
        key.with_str(key::check_key)?;
        let seq = Some(pg_sys::Datum::from(seq));
        rows.push([seq, Some(key.datum()), Some(data.datum()), headers.map(Jsonb::datum), now]);
    }
    target.insert(&rows, has_checks);
    Ok(true)
}

/// True if rows can violate a constraint of the table other than the one that create_stream makes: that is about the
/// key, which has been checked already.
fn has_checks(target: &Target, table: pg_sys::Oid) -> bool {
    let Some(constraints) = target.constraints() else { return false };
    let own = format!("{}_key_check", super::catalog::relation_name(table));
    // SAFETY: a relation has as many constraints as it says.
    let is_own = constraints.num_check == 1
        && unsafe { CStr::from_ptr((*constraints.check).ccname) }.to_bytes() == own.as_bytes();
    let needs_headers = target.descriptor().get(3).is_none_or(|headers| headers.attnotnull);
    needs_headers || !(is_own || constraints.num_check == 0)
}

/// True if the time is the only column with a default, and that is clock_timestamp().
fn has_own_default(target: &Target) -> bool {
    const CLOCK: &CStr = c"{FUNCEXPR :funcid 2649 ";
    let Some(constraints) = target.constraints() else { return false };
    if constraints.num_defval != 1 {
        return false;
    }
    // SAFETY: a relation has as many defaults as it says, each the text of an expression.
    unsafe {
        let default = &*constraints.defval;
        let text = CStr::from_ptr(default.adbin);
        usize::try_from(default.adnum) == Ok(scan::COLUMNS.len())
            && text.to_bytes().starts_with(CLOCK.to_bytes())
    }
}
