//! The owners of consumers and sources: what REASSIGN OWNED and DROP OWNED do about them.

use super::{consumers, publications, sources, statement};
use crate::error::Result;
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Statement, arg};
use pgrx::pg_sys;

statement!(
    CONSUMERS,
    "SELECT name FROM sequin.consumers WHERE owner::oid = ANY ($1) ORDER BY name",
    [OIDARRAYOID]
);
statement!(
    SOURCES,
    "SELECT name FROM sequin.sources WHERE owner::oid = ANY ($1) ORDER BY name",
    [OIDARRAYOID]
);

fn names(
    statement: &'static std::thread::LocalKey<Statement>,
    owners: &[pg_sys::Oid],
) -> Result<Vec<String>> {
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(owners.to_vec())], |rows| {
            rows.iter().map(|row| row.need(1)).collect()
        })
    };
    role::as_owner_in_pg_catalog(|| statement.with(read))
}

/// REASSIGN OWNED: gives all that these roles own to another.
pub fn reassign(owners: &[pg_sys::Oid], new: pg_sys::Oid) -> Result<()> {
    for name in names(&CONSUMERS, owners)? {
        consumers::give(&name, new)?;
    }
    names(&SOURCES, owners)?.iter().try_for_each(|name| sources::give(name, new))
}

/// DROP OWNED: drops all that these roles own.
pub fn drop(owners: &[pg_sys::Oid]) -> Result<()> {
    for name in names(&SOURCES, owners)? {
        let source = sources::find(&name)?;
        sources::delete(&name)?;
        if source.owns_publication {
            publications::drop(&name)?;
        }
    }
    names(&CONSUMERS, owners)?.iter().try_for_each(|name| consumers::delete(name))
}
