//! What may be captured, and by whom.

use crate::error::{Error, Result};
use crate::pg::exec::datum::RegClassArray;
use crate::pg::exec::{catalog, role};
use crate::store::publications::{self, Candidate};
use pgrx::pg_sys;

/// Checks the tables that the caller has named, and returns them; `None` stands for all tables. With `reading`, also
/// checks that the caller may read them.
pub fn chosen(tables: Option<RegClassArray>, reading: bool) -> Result<Option<Vec<Candidate>>> {
    let Some(tables) = tables else {
        if !role::is_superuser() {
            return Err(Error::AllTables);
        }
        check_identity(&publications::all_tables()?)?;
        return Ok(None);
    };
    if tables.has_null() {
        return Err(Error::NullElement("tables"));
    }
    if tables.len() == 0 {
        return Err(Error::NoTables);
    }
    let candidates = publications::candidates(tables)?;
    for table in &candidates {
        if let Some(fault) = &table.fault {
            return Err(Error::NotCapturable { table: table.name.clone(), fault: fault.clone() });
        }
        if !role::owns_table(table.oid) {
            return Err(Error::NotTableOwner(table.name.clone()));
        }
        if reading {
            may_read(table.oid, &table.name)?;
        }
    }
    check_identity(&candidates.iter().map(|table| table.oid).collect::<Vec<_>>())?;
    Ok(Some(candidates))
}

/// Checks a publication that the user has made. With `reading`, also checks that the caller may read its tables.
pub fn check_publication(name: &str, reading: bool) -> Result<()> {
    let Some(publication) = publications::find(name)? else {
        return Err(Error::NoPublication(name.into()));
    };
    if !role::has_rights_of(role::current(), publication.owner) {
        let owner = catalog::role_name(publication.owner);
        return Err(Error::NotPublicationOwner { publication: name.into(), owner });
    }
    let tables = publications::tables(name)?;
    // A publication keeps a table whose ownership has changed since it was added.
    for table in tables.iter().filter(|table| reading || !role::owns_table(table.oid)) {
        may_read(table.oid, &table.name)?;
    }
    if !publication.needs_identity {
        return Ok(());
    }
    check_identity(&tables.iter().map(|table| table.oid).collect::<Vec<_>>())
}

fn check_identity(tables: &[pg_sys::Oid]) -> Result<()> {
    if let Some(table) = publications::without_identity(tables)? {
        return Err(Error::NoIdentity(table));
    }
    match publications::not_updatable(tables)? {
        Some(table) => Err(Error::NotUpdatable(table)),
        None => Ok(()),
    }
}

/// Checks that the current role may read all of a table.
pub fn may_read(table: pg_sys::Oid, name: &str) -> Result<()> {
    if !role::may_select(table) {
        return Err(Error::NoTableSelect(name.into()));
    }
    if role::is_limited_by_policies(table) {
        return Err(Error::TableRowSecurity(name.into()));
    }
    Ok(())
}
