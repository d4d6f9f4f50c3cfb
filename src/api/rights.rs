//! Rights of the caller that several functions check: to read a stream, and to give something to another role. Scans in
//! code check no rights. A function that starts one for a caller must check here first what SQL would check: the right
//! to the schema and to the columns, and that no policy hides rows.

use crate::error::{Error, Result};
use crate::pg::exec::datum::RegRole;
use crate::pg::exec::{catalog, role, scan};
use crate::store::streams;
use pgrx::pg_sys;

/// The table of a stream. The stream must exist, and the caller must be allowed to read all of it.
pub fn readable(stream: &str) -> Result<pg_sys::Oid> {
    let table = selectable(stream)?;
    match role::is_limited_by_policies(table) {
        true => Err(Error::RowSecurity(stream.into())),
        false => Ok(table),
    }
}

/// The same, but policies may hide messages.
pub fn selectable(stream: &str) -> Result<pg_sys::Oid> {
    let table = streams::table(stream)?;
    if !role::may_use_schema_of(role::current(), table) {
        return Err(Error::NoSchemaUsage);
    }
    match role::may_select_columns(table, &scan::ALL) {
        true => Ok(table),
        false => Err(Error::NoSelect(stream.into())),
    }
}

/// A role to which the caller may give something that it owns.
pub fn new_owner(owner: RegRole) -> Result<pg_sys::Oid> {
    let owner = pg_sys::Oid::from(owner);
    if !role::exists(owner) {
        return Err(Error::NoRole(owner.to_u32()));
    }
    match role::may_give_to(owner) {
        true => Ok(owner),
        false => Err(Error::NotNewOwner(catalog::role_name(owner))),
    }
}

/// True if the caller may see seqs and keys of all messages.
pub fn may_see_keys(table: pg_sys::Oid) -> bool {
    may_see(table, &scan::SEQ_AND_KEY)
}

/// True if statistics may show the caller which seqs there are: to members of pg_monitor, and to roles that may read
/// the seqs themselves.
pub fn may_see_seqs(table: pg_sys::Oid) -> bool {
    role::is_monitor() || may_see(table, &scan::SEQ_ONLY)
}

/// The same for the time of a message.
pub fn may_see_times(table: pg_sys::Oid) -> bool {
    role::is_monitor() || may_see(table, &scan::SEQ_AND_TIME)
}

fn may_see(table: pg_sys::Oid, columns: &[i16]) -> bool {
    role::may_use_schema_of(role::current(), table)
        && role::may_select_columns(table, columns)
        && !role::is_limited_by_policies(table)
}
