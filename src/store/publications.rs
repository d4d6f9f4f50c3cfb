//! Publications, sequin's own and users', and the tables in them.

use super::statement;
use crate::error::{Error, Result};
use crate::pg::exec::datum::RegClassArray;
use crate::pg::exec::spi::{Access, Row, Statement, arg, command};
use crate::pg::exec::{catalog, role};
use pgrx::pg_sys;
use std::thread::LocalKey;

/// A publication.
pub struct Publication {
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    pub all_tables: bool,
    /// It publishes updates or deletes, which need a replica identity to name the row that they change.
    pub needs_identity: bool,
}

/// A table that a publication has.
pub struct Published {
    pub oid: pg_sys::Oid,
    /// With its schema, quoted as SQL needs it.
    pub name: String,
    /// It has a key by which it can be read in chunks.
    pub has_key: bool,
}

/// A table that is to be captured.
pub struct Candidate {
    pub oid: pg_sys::Oid,
    pub name: String,
    /// Why it can't be captured, if it can't.
    pub fault: Option<String>,
}

statement!(
    FIND,
    "SELECT oid, pubowner, puballtables, pubupdate OR pubdelete FROM pg_publication WHERE pubname = $1",
    [TEXTOID]
);
// The key is that of the replica identity's index, or else the primary key.
statement!(
    TABLES,
    "SELECT c.oid, format('%I.%I', n.nspname, c.relname), EXISTS ( \
        SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
        AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END) \
     FROM pg_publication_tables t \
     JOIN pg_namespace n ON n.nspname = t.schemaname \
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
     WHERE t.pubname = $1 AND n.nspname NOT IN ('sequin', 'sequin_stream', 'sequin_partition') \
     ORDER BY n.nspname, c.relname",
    [TEXTOID]
);
// With the tables that inherit from them, as in CREATE PUBLICATION. A partitioned table stands for its partitions.
statement!(
    CANDIDATES,
    "WITH RECURSIVE t (oid) AS ( \
        SELECT oid FROM unnest($1::oid[]) oid \
        UNION SELECT i.inhrelid FROM t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'r' \
            JOIN pg_inherits i ON i.inhparent = p.oid) \
     SELECT t.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), CASE \
        WHEN n.nspname IN ('sequin_stream', 'sequin_partition') THEN 'It is in the schema of streams.' \
        WHEN n.nspname = 'sequin' THEN 'It belongs to sequin.' \
        WHEN c.oid < 16384 OR n.nspname = 'pg_toast' THEN 'It belongs to the system.' \
        WHEN c.relkind = 'v' THEN 'It is a view.' \
        WHEN c.relkind = 'm' THEN 'It is a materialized view.' \
        WHEN c.relkind = 'f' THEN 'It is a foreign table.' \
        WHEN c.relkind NOT IN ('r', 'p') THEN 'It is no table.' \
        WHEN c.relpersistence = 't' THEN 'It is a temporary table.' \
        WHEN c.relpersistence = 'u' THEN 'It is an unlogged table.' END \
     FROM t LEFT JOIN pg_class c ON c.oid = t.oid \
     LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
     ORDER BY n.nspname, c.relname",
    [REGCLASSARRAYOID]
);
statement!(
    ALL_TABLES,
    "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 \
     AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema', 'sequin', 'sequin_stream', 'sequin_partition')",
    []
);
/// The first of some tables for which a condition holds. Partitions are checked too, as their own identity decides whether
/// they can be updated.
macro_rules! first_where {
    ($condition:literal) => {
        concat!(
            "SELECT format('%I.%I', n.nspname, c.relname) \
             FROM (SELECT oid FROM unnest($1) oid \
                   UNION SELECT p.relid FROM unnest($1) oid, pg_partition_tree(oid) p) t \
             JOIN pg_class c ON c.oid = t.oid \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE ",
            $condition,
            " ORDER BY n.nspname, c.relname LIMIT 1"
        )
    };
}
statement!(
    WITHOUT_IDENTITY,
    first_where!(
        "c.relkind IN ('r', 'p') AND c.relreplident <> 'f' AND NOT EXISTS ( \
            SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate \
            AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END)"
    ),
    [OIDARRAYOID]
);
// From PostgreSQL 18 on there are such columns.
statement!(
    NOT_UPDATABLE,
    first_where!(
        "c.relreplident = 'f' AND EXISTS ( \
            SELECT FROM pg_attribute a \
            WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)"
    ),
    [OIDARRAYOID]
);

/// The publication that sequin makes for a source. The name needs no quoting beyond double quotes.
pub fn own_name(source: &str) -> String {
    format!("sequin_{source}")
}

pub fn find(name: &str) -> Result<Option<Publication>> {
    let read = |row: Row| {
        Ok(Publication {
            oid: row.need(1)?,
            owner: row.need(2)?,
            all_tables: row.need(3)?,
            needs_identity: row.need(4)?,
        })
    };
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(name)], |rows| rows.first().map(read).transpose())
    };
    role::as_owner_in_pg_catalog(|| FIND.with(run))
}

/// The tables of a publication, as it has them: partitions, or their root. Not those of sequin.
pub fn tables(name: &str) -> Result<Vec<Published>> {
    let read =
        |row: Row| Ok(Published { oid: row.need(1)?, name: row.need(2)?, has_key: row.need(3)? });
    let run =
        |s: &Statement| s.run(Access::Latest, &[arg(name)], |rows| rows.iter().map(read).collect());
    role::as_owner_in_pg_catalog(|| TABLES.with(run))
}

/// Tables that a caller has named, and those that inherit from them, each once; the array must be without NULLs.
pub fn candidates(tables: RegClassArray) -> Result<Vec<Candidate>> {
    let read = |row: Row| {
        let oid: pg_sys::Oid = row.need(1)?;
        Ok(match row.get(2)? {
            Some(name) => Candidate { oid, name, fault: row.get(3)? },
            None => {
                let fault = Some("It does not exist.".into());
                Candidate { oid, name: oid.to_u32().to_string(), fault }
            }
        })
    };
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(tables)], |rows| rows.iter().map(read).collect())
    };
    role::as_owner_in_pg_catalog(|| CANDIDATES.with(run))
}

/// All tables of users.
pub fn all_tables() -> Result<Vec<pg_sys::Oid>> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[], |rows| rows.iter().map(|row| row.need(1)).collect())
    };
    role::as_owner_in_pg_catalog(|| ALL_TABLES.with(run))
}

/// One of these tables, or of their partitions, that has no usable replica identity.
pub fn without_identity(tables: &[pg_sys::Oid]) -> Result<Option<String>> {
    first_of(&WITHOUT_IDENTITY, tables)
}

/// One of these tables, or of their partitions, whose updates PostgreSQL refuses while a publication has it.
pub fn not_updatable(tables: &[pg_sys::Oid]) -> Result<Option<String>> {
    first_of(&NOT_UPDATABLE, tables)
}

fn first_of(
    statement: &'static LocalKey<Statement>,
    tables: &[pg_sys::Oid],
) -> Result<Option<String>> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(tables.to_vec())], |rows| {
            rows.first().map(|row| row.need(1)).transpose()
        })
    };
    role::as_owner_in_pg_catalog(|| statement.with(run))
}

/// Makes a source's own publication, of these tables or of all. It goes with the extension.
pub fn create(source: &str, tables: Option<&[Candidate]>) -> Result<()> {
    let name = own_name(source);
    let tables = tables.map_or("ALL TABLES".into(), list);
    role::as_owner_in_pg_catalog(|| {
        command(&format!(
            "CREATE PUBLICATION \"{name}\" FOR {tables} WITH ({})",
            catalog::PUBLICATION_OPTIONS
        ))
    })?;
    keep_with_extension(&name)
}

/// Makes DROP EXTENSION drop a source's own publication. A dump doesn't contain this dependency.
pub fn keep_with_extension(name: &str) -> Result<()> {
    let missing = || Error::NoPublication(name.into());
    let publication = find(name)?.ok_or_else(missing)?;
    catalog::drop_publication_with_extension(publication.oid);
    Ok(())
}

/// Sets the tables of a source's own publication.
pub fn set_tables(source: &str, tables: &[Candidate]) -> Result<()> {
    let (name, tables) = (own_name(source), list(tables));
    role::as_owner_in_pg_catalog(|| command(&format!("ALTER PUBLICATION \"{name}\" SET {tables}")))
}

/// Drops a source's own publication, if it is there.
pub fn drop(source: &str) -> Result<()> {
    let name = own_name(source);
    if find(&name)?.is_none() {
        return Ok(());
    }
    role::as_owner_in_pg_catalog(|| command(&format!("DROP PUBLICATION \"{name}\"")))
}

/// The tables for CREATE or ALTER PUBLICATION. With ONLY, since tables that inherit from them are listed themselves. A
/// partitioned table includes its partitions.
fn list(tables: &[Candidate]) -> String {
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.name)).collect();
    format!("TABLE {}", names.join(", "))
}
