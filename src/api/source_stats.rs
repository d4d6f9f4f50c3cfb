//! The functions behind `sequin.source_stats`: the state of the capturers, and what keeps sources from capturing.

use crate::pg::shared::capturers::{self, Capturer};
use crate::pg::shared::database::Database;
use crate::store::source_faults;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(name = "_source_workers")]
fn source_workers() -> Result<
    TableIterator<
        'static,
        (name!(source_id, i32), name!(pid, Option<i32>), name!(last_error, Option<String>)),
    >,
    ErrorReport,
> {
    let here = Database::here().map(Database::oid);
    let row = |entry: &Capturer| {
        let pid = Some(entry.status.pid()).filter(|&pid| pid != 0);
        (entry.source(), pid, entry.status.error())
    };
    let entries = capturers::all().map(|(_, entry)| entry);
    let ours = entries.filter(|entry| Some(entry.database()) == here);
    Ok(TableIterator::new(ours.map(row).collect::<Vec<_>>()))
}

#[pg_extern(name = "_source_faults")]
fn source_faults()
-> Result<TableIterator<'static, (name!(source_id, i32), name!(fault, String))>, ErrorReport> {
    Ok(TableIterator::new(source_faults::list()?))
}
