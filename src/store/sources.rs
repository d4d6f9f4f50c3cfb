//! `sequin.sources`: which tables' changes go to which stream.

use super::statement;
use crate::error::{Error, Result};
use crate::pg::exec::owners::{self, Owned};
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Arg, Row, Statement, arg};
use pgrx::pg_sys;

/// A source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub id: i32,
    pub name: String,
    pub stream: String,
    /// Inserts into the stream as this role.
    pub owner: pg_sys::Oid,
    pub publication: String,
    pub owns_publication: bool,
    pub key_format: String,
    pub backfill: bool,
    pub paused: bool,
    pub generation: i32,
    /// Its slot is, or is to be, one of this server and database. A restored dump's sources have none.
    pub is_here: bool,
}

/// SELECTs the columns that `read` reads.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.name, s.stream, s.owner::oid, s.publication, s.owns_publication, s.key_format, \
                s.backfill, s.paused, s.generation, \
                s.system = c.system_identifier AND s.database = d.oid \
             FROM sequin.sources s, pg_control_system() c, pg_database d \
             WHERE d.datname = current_database() ",
            $rest
        )
    };
}
statement!(FIND, select!("AND s.name = $1"), [TEXTOID]);
statement!(LIST, select!("ORDER BY s.id"), []);
statement!(OF_STREAM, "SELECT name FROM sequin.sources WHERE stream = $1 ORDER BY name", [TEXTOID]);
statement!(
    INSERT,
    "INSERT INTO sequin.sources \
        (name, stream, owner, publication, owns_publication, key_format, backfill, id, system, database) \
     VALUES ($1, $2, $3::regrole, $4, $5, $6, $7, $8, $9, $10)",
    [TEXTOID, TEXTOID, OIDOID, TEXTOID, BOOLOID, TEXTOID, BOOLOID, INT4OID, INT8OID, OIDOID]
);
statement!(
    ALTER,
    "UPDATE sequin.sources SET stream = coalesce($2, stream), key_format = coalesce($3, key_format) \
     WHERE name = $1",
    [TEXTOID, TEXTOID, TEXTOID]
);
statement!(
    GIVE,
    "UPDATE sequin.sources SET owner = $2::regrole WHERE name = $1",
    [TEXTOID, OIDOID]
);
statement!(PAUSE, "UPDATE sequin.sources SET paused = $2 WHERE name = $1", [TEXTOID, BOOLOID]);
statement!(
    RESTART,
    "UPDATE sequin.sources SET paused = false, generation = $2, system = $3, database = $4 \
     WHERE name = $1",
    [TEXTOID, INT4OID, INT8OID, OIDOID]
);
// Only tables that the publication names: one of all tables, or of a schema, includes whichever exist.
statement!(
    REMEMBER_TABLES,
    "UPDATE sequin.sources s SET table_oids = now.oids, table_names = now.names \
     FROM (SELECT coalesce(array_agg(c.oid ORDER BY c.oid), '{}') AS oids, \
               coalesce(array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY c.oid), '{}') AS names \
           FROM sequin.sources me JOIN pg_publication p ON p.pubname = me.publication \
           JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid \
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE me.name = $1) now \
     WHERE s.name = $1",
    [TEXTOID]
);
statement!(DELETE, "DELETE FROM sequin.sources WHERE name = $1", [TEXTOID]);

/// The name of a source's slot. It is not stored in any table.
pub fn slot_name(database: pg_sys::Oid, id: i32, generation: i32) -> String {
    format!("{}{id}_{generation}", slot_prefix(database))
}

/// The common prefix of the names of the slots of a database's sources.
pub fn slot_prefix(database: pg_sys::Oid) -> String {
    format!("sequin_{}_", database.to_u32())
}

/// A source that must exist.
pub fn find(name: &str) -> Result<Source> {
    lookup(name)?.ok_or_else(|| Error::NoSource(name.into()))
}

pub fn exists(name: &str) -> Result<bool> {
    lookup(name).map(|found| found.is_some())
}

fn lookup(name: &str) -> Result<Option<Source>> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(name)], |rows| rows.first().map(read).transpose())
    };
    role::as_owner_in_pg_catalog(|| FIND.with(run))
}

/// All sources that are committed by now: for the dispatcher and the capturers.
pub fn list() -> Result<Vec<Source>> {
    LIST.with(|s| s.run(Access::Latest, &[], |rows| rows.iter().map(read).collect()))
}

fn read(row: Row) -> Result<Source> {
    Ok(Source {
        id: row.need(1)?,
        name: row.need(2)?,
        stream: row.need(3)?,
        owner: row.need(4)?,
        publication: row.need(5)?,
        owns_publication: row.need(6)?,
        key_format: row.need(7)?,
        backfill: row.need(8)?,
        paused: row.need(9)?,
        generation: row.need(10)?,
        is_here: row.need(11)?,
    })
}

/// The sources that feed a stream, by name.
pub fn of_stream(stream: &str) -> Result<Vec<String>> {
    let read = |s: &Statement| {
        s.run(Access::Latest, &[arg(stream)], |rows| {
            rows.iter().map(|row| row.need::<String>(1)).collect()
        })
    };
    role::as_owner_in_pg_catalog(|| OF_STREAM.with(read))
}

/// Inserts `source`. Its generation becomes 1.
pub fn insert(source: &Source, system: i64, database: pg_sys::Oid) -> Result<()> {
    owners::note(Owned::Sources, source.owner);
    let args = [
        arg(source.name.as_str()),
        arg(source.stream.as_str()),
        arg(source.owner),
        arg(source.publication.as_str()),
        arg(source.owns_publication),
        arg(source.key_format.as_str()),
        arg(source.backfill),
        arg(source.id),
        arg(system),
        arg(database),
    ];
    role::as_owner_in_pg_catalog(|| INSERT.with(|s| s.execute(&args))).map(drop)
}

/// `None` leaves a setting as it is.
pub fn alter(name: &str, stream: Option<&str>, key_format: Option<&str>) -> Result<()> {
    change(name, &ALTER, &[arg(name), stream.and_then(arg), key_format.and_then(arg)])
}

/// Gives it to another role.
pub fn give(name: &str, owner: pg_sys::Oid) -> Result<()> {
    owners::note(Owned::Sources, owner);
    change(name, &GIVE, &[arg(name), arg(owner)])
}

pub fn pause(name: &str, paused: bool) -> Result<()> {
    change(name, &PAUSE, &[arg(name), arg(paused)])
}

/// Makes the source start anew, with the slot of another generation.
pub fn restart(name: &str, generation: i32, system: i64, database: pg_sys::Oid) -> Result<()> {
    change(name, &RESTART, &[arg(name), arg(generation), arg(system), arg(database)])
}

/// Notes which tables it captures. If one is dropped and another table gets its name, `source_faults` reports that the
/// new one isn't captured.
pub fn remember_tables(name: &str) -> Result<()> {
    change(name, &REMEMBER_TABLES, &[arg(name)])
}

/// Deletes it, with its backfills. The dispatcher deletes its slot and its progress: if this did, an open transaction
/// would lock rows that the capturer has to delete.
pub fn delete(name: &str) -> Result<()> {
    change(name, &DELETE, &[arg(name)])
}

fn change(
    name: &str,
    statement: &'static std::thread::LocalKey<Statement>,
    args: &[Arg],
) -> Result<()> {
    match role::as_owner_in_pg_catalog(|| statement.with(|s| s.execute(args)))? {
        0 => Err(Error::NoSource(name.into())),
        _ => Ok(()),
    }
}
