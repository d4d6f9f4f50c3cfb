//! The tables: one file each, with its rows and its statements.
//!
//! Statements that run with the extension owner's rights name everything in full, operators too, so that no
//! caller's search_path can slip in others.

pub mod acks;
pub mod backfills;
pub mod checkpoints;
pub mod chunks;
pub mod consumers;
pub mod dead_letters;
pub mod dedup;
pub mod epoch;
pub mod journal;
pub mod messages;
pub mod outbox;
pub mod owners;
pub mod partitions;
pub mod publications;
pub mod repair;
pub mod retention;
pub mod schedules;
pub mod slots;
pub mod source_faults;
pub mod source_progress;
pub mod sources;
pub mod streams;
pub mod tables;
pub mod types;

use crate::error::Result;
use crate::pg::exec::spi::{Access, Arg, Row, Rows, Statement, arg};
use crate::pg::exec::{catalog, insert};
use pgrx::datum::IntoDatum;
use std::ffi::CStr;
use std::thread::LocalKey;

/// Inserts rows into one of sequin's tables. `statement` inserts one, its arguments being all the columns, in their
/// order; it is used if the table was altered.
fn insert_rows<const N: usize>(
    table: &CStr,
    rows: &[[Arg; N]],
    statement: &'static LocalKey<Statement>,
) -> Result<()> {
    catalog::check_own_schema()?;
    if let Some(table) = catalog::own_table(table)
        && insert::insert(table, statement.with(Statement::types), rows)?
    {
        return Ok(());
    }
    rows.iter().try_for_each(|row| statement.with(|s| s.execute(row)).map(drop))
}

/// The rows that are committed by now: those with the keys `these`, by the statement `some`; all, by the statement
/// `all`, if that is `None`.
fn list_some<T, Key>(
    all: &'static LocalKey<Statement>,
    some: &'static LocalKey<Statement>,
    these: Option<Vec<Key>>,
    read: impl Fn(Row) -> Result<T>,
) -> Result<Vec<T>>
where
    Vec<Key>: IntoDatum,
{
    let (statement, args) = match these {
        Some(keys) => (some, vec![arg(keys)]),
        None => (all, Vec::new()),
    };
    let read = |rows: &Rows| rows.iter().map(read).collect();
    statement.with(|s| s.run(Access::Latest, &args, read))
}

/// Declares a statement that each session plans once.
macro_rules! statement {
    ($name:ident, $sql:expr, [$($oid:ident),* $(,)?]) => {
        thread_local! {
            static $name: crate::pg::exec::spi::Statement =
                const { crate::pg::exec::spi::Statement::new($sql, &[$(pgrx::pg_sys::$oid),*]) };
        }
    };
}
pub(crate) use statement;
