//! `sequin.streams`, and the tables of streams.

use super::messages::{self, Table};
use super::{list_some, partitions, statement};
use crate::error::{Error, Result};
use crate::pg::exec::savepoint::without_locks;
use crate::pg::exec::spi::{Access, Plan, Row, Statement, arg, connected};
use crate::pg::exec::stream_table::{self, Found};
use crate::pg::exec::{catalog, relcache, role};
use pgrx::pg_sys;
use sequin_engine::dispatcher::StreamConfig;
use sequin_engine::fault::{Fault, Known};
use sequin_engine::ids::StreamId;
use sequin_engine::key::Seq;
use sequin_engine::settings::Micros;
use std::cell::RefCell;
use std::collections::HashSet;

statement!(
    INSERT,
    "INSERT INTO sequin.streams (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
    [TEXTOID]
);
statement!(
    INSERT_ONE_PER_KEY,
    "INSERT INTO sequin.streams (name, one_message_per_key) VALUES ($1, true) ON CONFLICT (name) DO NOTHING",
    [TEXTOID]
);
statement!(
    ONE_PER_KEY,
    "SELECT true FROM sequin.streams WHERE name OPERATOR(pg_catalog.=) $1 AND one_message_per_key",
    [TEXTOID]
);
statement!(
    SET_DEDUP_WINDOW,
    "UPDATE sequin.streams SET dedup_window = $2 OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval \
     WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID, INT8OID]
);
statement!(SET_LAST, "SELECT pg_catalog.setval($1::pg_catalog.regclass, $2)", [OIDOID, INT8OID]);
statement!(DELETE, "DELETE FROM sequin.streams WHERE name OPERATOR(pg_catalog.=) $1", [TEXTOID]);
statement!(
    EXISTS,
    "SELECT true FROM sequin.streams WHERE name OPERATOR(pg_catalog.=) $1",
    [TEXTOID]
);
statement!(
    KEEP,
    "SELECT true FROM sequin.streams WHERE name OPERATOR(pg_catalog.=) $1 FOR KEY SHARE",
    [TEXTOID]
);
macro_rules! list {
    () => {
        "SELECT s.name, c.oid, s.repairs FROM sequin.streams s \
         JOIN pg_class c ON c.relname = s.name AND c.relkind IN ('r', 'p') AND c.relnamespace = \
            (SELECT oid FROM pg_namespace WHERE nspname = 'sequin_stream')"
    };
}
statement!(LIST, list!(), []);
statement!(LIST_SOME, concat!(list!(), " WHERE c.oid = ANY ($1)"), [OIDARRAYOID]);

thread_local! {
    /// Tables that are known to be streams', and the [`relcache::generation`] at which that was found.
    static TABLES: RefCell<(u64, HashSet<pg_sys::Oid>)> = RefCell::default();
}

/// The table of a stream that must exist. The table need not be listed in sequin.streams if it has the trigger: after
/// restoring a dump of schemas only, none is. If it is listed, it may be damaged.
pub fn table(stream: &str) -> Result<pg_sys::Oid> {
    let missing = || Error::NoStream(stream.into());
    let table = catalog::stream_table(stream).ok_or_else(missing)?;
    let generation = relcache::generation();
    let is_known = TABLES.with_borrow_mut(|(of, tables)| {
        if *of != generation {
            tables.clear();
            *of = generation;
        }
        tables.contains(&table)
    });
    if !is_known {
        // The table may have been dropped during the wait for its lock.
        let is_damaged = || catalog::stream_table(stream) == Some(table);
        if !stream_table::is_stream(table)
            && (!is_damaged() || !without_locks(|| is_listed(stream))?)
        {
            return Err(missing());
        }
        TABLES.with_borrow_mut(|(_, tables)| tables.insert(table));
    }
    Ok(table)
}

/// Whether there is a stream of that name. If so, it is listed afterwards: what refers to a stream locks its row.
pub fn exists(stream: &str) -> Result<bool> {
    if is_listed(stream)? {
        return Ok(true);
    }
    match catalog::stream_table(stream) {
        Some(table) if stream_table::is_stream(table) => {
            insert(stream, stream_table::keeps_one_per_key(table)).map(|()| true)
        }
        _ => Ok(false),
    }
}

fn is_listed(stream: &str) -> Result<bool> {
    let found = |s: &Statement| s.run(Access::Snapshot, &[arg(stream)], |rows| Ok(rows.len() > 0));
    role::as_owner(|| EXISTS.with(found))
}

/// Keeps a stream from being dropped until this transaction ends, so that something can refer to it, as a foreign key
/// would.
pub fn keep(stream: &str) -> Result<()> {
    let found = |s: &Statement| s.run(Access::Write, &[arg(stream)], |rows| Ok(rows.len() > 0));
    match role::as_owner(|| KEEP.with(found))? {
        true => Ok(()),
        false => Err(Error::NoStream(stream.into())),
    }
}

pub fn insert(stream: &str, one_message_per_key: bool) -> Result<()> {
    let statement = if one_message_per_key { &INSERT_ONE_PER_KEY } else { &INSERT };
    role::as_owner(|| statement.with(|s| s.execute(&[arg(stream)]))).map(drop)
}

/// Sets how long a stream remembers dedup_ids, for messages that are published from now on.
pub fn set_dedup_window(stream: &str, window: Micros) -> Result<()> {
    catalog::check_member(c"dedup_tables")?;
    role::as_owner(|| SET_DEDUP_WINDOW.with(|s| s.execute(&[arg(stream), arg(window)]))).map(drop)
}

/// The same, while nobody publishes: waits until open transactions that have published have ended, and keeps others out
/// until this one ends. Otherwise two of them could look for an id in different tables.
pub fn change_dedup_window(stream: &str, window: Micros) -> Result<()> {
    run(&format!("LOCK TABLE sequin_stream.\"{stream}\" IN SHARE ROW EXCLUSIVE MODE"))?;
    set_dedup_window(stream, window)
}

/// Deletes a stream's row; false if it was not listed.
pub fn delete(stream: &str) -> Result<bool> {
    role::as_owner(|| DELETE.with(|s| s.execute(&[arg(stream)]))).map(|n| n > 0)
}

statement!(
    HAS_TABLE,
    "SELECT true FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
        ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE n.nspname OPERATOR(pg_catalog.=) 'sequin_stream' \
     AND c.relname OPERATOR(pg_catalog.=) $1::pg_catalog.name",
    [TEXTOID]
);

/// True if a stream's table exists, by a new snapshot: the catalog caches may not know yet that it is gone.
pub fn has_table(stream: &str) -> Result<bool> {
    HAS_TABLE.with(|s| s.run(Access::Latest, &[arg(stream)], |rows| Ok(rows.len() > 0)))
}

/// For the dispatcher: these streams, or all, as far as they are committed by now and have a table. It is a query,
/// since a snapshot sees a commit before the catalog caches are invalidated (CommitTransaction calls callbacks before
/// it sends invalidations).
pub fn list(these: Option<Vec<StreamId>>) -> Result<Vec<StreamConfig>> {
    let read = |row: Row| {
        let id = StreamId(row.need::<pg_sys::Oid>(2)?.to_u32());
        Ok(StreamConfig { name: row.need(1)?, id, repairs: row.need(3)? })
    };
    let tables = |ids: Vec<StreamId>| -> Vec<pg_sys::Oid> {
        ids.into_iter().map(|StreamId(table)| table.into()).collect()
    };
    list_some(&LIST, &LIST_SOME, these.map(tables), read)
}

/// A stream's table and the last value of its sequence, as the dispatcher finds them.
pub enum Tail {
    /// It may be read until the transaction ends.
    Locked(pg_sys::Oid, Known),
    Broken(Fault),
    /// Another session has locked it exclusively.
    Busy,
    Missing,
}

/// Locks a stream's table for reading, without waiting, and examines it. What is `known` of its sequence must still
/// hold, or the stream is damaged.
pub fn tail(stream: &str, known: Known) -> Tail {
    match messages::try_lock(stream) {
        Table::Locked(table) => match stream_table::examine(table, known) {
            Found::Sound(known) => Tail::Locked(table, known),
            Found::Broken(fault) => Tail::Broken(fault),
            Found::Busy => Tail::Busy,
        },
        Table::Busy => Tail::Busy,
        Table::Missing => Tail::Missing,
    }
}

/// How a stream's table has keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    NotIndexed,
    Indexed,
    /// There is one message for each key.
    Unique,
}

/// Creates a stream's table as the current role, which becomes its owner: with partitions if it has retention.
pub fn create_table(stream: &str, keys: Keys, has_retention: bool) -> Result<()> {
    let partitioning = if has_retention { " PARTITION BY RANGE (seq)" } else { "" };
    let commands = include_str!("../../sql/query/create_stream.sql");
    run(&commands.replace("%stream%", stream).replace("%partitioning%", partitioning))?;
    create_trigger(stream)?;
    match keys {
        Keys::NotIndexed => {}
        Keys::Indexed => {
            run(&format!("CREATE INDEX \"{stream}_key_idx\" ON sequin_stream.\"{stream}\" (key)"))?;
        }
        Keys::Unique => {
            create_unique_key(stream)?;
            create_upsert_trigger(stream)?;
        }
    }
    if has_retention { partitions::create_first(stream) } else { Ok(()) }
}

/// Sets the last value of a stream's sequence, as the current role.
pub fn set_last(sequence: pg_sys::Oid, last: Seq) -> Result<()> {
    SET_LAST.with(|s| s.run(Access::Write, &[arg(sequence), arg(last)], |_| Ok(())))
}

/// Whether a stream was made with one message per key.
pub fn has_one_per_key(stream: &str) -> Result<bool> {
    if catalog::check_member(c"key_locks").is_err() {
        return Ok(false);
    }
    let found = |s: &Statement| s.run(Access::Snapshot, &[arg(stream)], |rows| Ok(rows.len() > 0));
    role::as_owner(|| ONE_PER_KEY.with(found))
}

/// A right on a stream's table.
#[derive(Clone, Copy)]
pub enum Right {
    /// To publish.
    Insert,
    /// To make consumers of it, and to receive.
    Select,
}

/// Grants a right to a role, as the current role.
pub fn grant(right: Right, stream: &str, role: &str) -> Result<()> {
    let right = match right {
        Right::Insert => "INSERT",
        Right::Select => "SELECT",
    };
    let role = role.replace('"', "\"\"");
    run(&format!("GRANT {right} ON sequin_stream.\"{stream}\" TO \"{role}\""))
}

/// Makes the keys of a stream's table unique.
pub fn create_unique_key(stream: &str) -> Result<()> {
    let constraint = format!("CONSTRAINT \"{stream}_key_key\" UNIQUE (key)");
    run(&format!("ALTER TABLE sequin_stream.\"{stream}\" ADD {constraint}"))
}

/// Creates the trigger of a stream's table that keeps one message of each key.
pub fn create_upsert_trigger(stream: &str) -> Result<()> {
    let commands = include_str!("../../sql/query/create_upsert_trigger.sql");
    run(&commands.replace("%stream%", stream))
}

/// Creates the trigger of a stream's table.
pub fn create_trigger(stream: &str) -> Result<()> {
    run(&include_str!("../../sql/query/create_trigger.sql").replace("%stream%", stream))
}

/// Drops a stream's table, if it is still there.
pub fn drop_table(stream: &str) -> Result<()> {
    let Some(table) = catalog::stream_table(stream) else { return Ok(()) };
    if stream_table::keeps_one_per_key(table) {
        messages::superseding::forget(table)?;
    }
    run(&format!("DROP TABLE sequin_stream.\"{stream}\""))
}

/// Runs commands that are used once. Names of streams need no quoting beyond the double quotes.
fn run(commands: &str) -> Result<()> {
    for command in commands.split(";\n").filter(|command| !command.trim().is_empty()) {
        connected(|| Plan::new(command, &[])?.execute(Access::Write, &[]).map(drop))?;
    }
    Ok(())
}
