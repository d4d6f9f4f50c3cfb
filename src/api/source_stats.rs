//! What `sequin.source_stats` shows of the capturers.

use crate::pg::datum::Timestamptz;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(name = "_source_workers")]
fn source_workers() -> Result<
    TableIterator<
        'static,
        (
            name!(source_id, i32),
            name!(pid, Option<i32>),
            name!(state, &'static str),
            name!(since, Option<Timestamptz>),
            name!(last_error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(Vec::new()))
}
