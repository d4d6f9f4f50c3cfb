//! The logical replication slots of sources, and the facts about the server that sources depend on.

use super::statement;
use crate::error::{Error, Result};
use crate::pg::exec::role;
use crate::pg::exec::spi::{Access, Arg, Row, Statement, arg, command};
use crate::pg::session::current;
use crate::pg::wal::{output, replication_slot};
use crate::store::sources;
use pgrx::pg_sys;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

statement!(
    SERVER,
    "SELECT current_setting('wal_level') = 'logical', \
        current_setting('transaction_read_only')::boolean, c.system_identifier, d.oid, \
        1 + (hashtext(gen_random_uuid()::text) & 1073741823) \
     FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()",
    []
);
statement!(NEXT_XID, "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text", []);
// The catalog rows of tables and columns, which decoding looks up. age() of a frozen row is the greatest possible.
statement!(
    UNCHANGED_SINCE,
    "WITH decoded AS (SELECT oid, xmin FROM pg_class WHERE relpersistence <> 't') \
     SELECT NOT EXISTS (SELECT FROM decoded WHERE age(xmin) <= age($1::xid)) \
        AND NOT EXISTS (SELECT FROM pg_attribute WHERE age(xmin) <= age($1::xid) \
            AND attrelid IN (SELECT oid FROM decoded))",
    [TEXTOID]
);
// True if the slot was consistent at the first record of running transactions that it read. If no transaction was
// running, that record takes 96 bytes at the most, with the header of a page. Otherwise the slot needed a second
// record, and each takes 56 bytes at least.
statement!(
    CONSISTENT_AT_ONCE,
    "SELECT confirmed_flush_lsn - restart_lsn < 2 * 56 FROM pg_replication_slots WHERE slot_name = $1",
    [TEXTOID]
);
statement!(MARK, "SELECT pg_logical_emit_message(true, $1, $2)", [TEXTOID, TEXTOID]);
statement!(
    STATE,
    "SELECT s.slot_name IS NOT NULL, coalesce(s.wal_status = 'lost', false), EXISTS ( \
        SELECT FROM sequin.source_progress p WHERE p.source_id = $2 AND p.generation = $3) \
     FROM (VALUES ($1::name)) wanted (name) \
     LEFT JOIN pg_replication_slots s ON s.slot_name = wanted.name",
    [TEXTOID, INT4OID, INT4OID]
);

statement!(
    LIST,
    "SELECT slot_name::text, active FROM pg_replication_slots \
     WHERE datoid = $1 AND starts_with(slot_name::text, $2) ORDER BY slot_name",
    [OIDOID, TEXTOID]
);
statement!(
    CONFIRMED,
    "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1",
    [TEXTOID]
);
statement!(DROP, "SELECT pg_drop_replication_slot($1::name)", [TEXTOID]);

/// The server and database in which a source is to be.
pub struct Server {
    pub is_logical: bool,
    pub is_read_only: bool,
    pub system: i64,
    pub database: pg_sys::Oid,
    /// An id for a new source, at random.
    pub new_id: i32,
}

pub fn server() -> Result<Server> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[], |rows| {
            let row = rows.one()?;
            Ok(Server {
                is_logical: row.need(1)?,
                is_read_only: row.need(2)?,
                system: row.need(3)?,
                database: row.need(4)?,
                new_id: row.need(5)?,
            })
        })
    };
    role::as_owner_in_pg_catalog(|| SERVER.with(run))
}

/// Keeps the dispatcher from dropping slots whose source isn't committed yet. `alone` also keeps out other callers with
/// `alone`.
pub fn lock_sources(alone: bool) -> Result<()> {
    let mode = if alone { "SHARE UPDATE EXCLUSIVE" } else { "ROW EXCLUSIVE" };
    role::as_owner_in_pg_catalog(|| command(&format!("LOCK TABLE sequin.sources IN {mode} MODE")))
}

/// How long to retry making a slot while catalogs change: on a busy machine nearly every attempt may meet a change. The
/// user can cancel it at any time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a slot, unless this transaction has written already, which PostgreSQL forbids: then the capturer makes it
/// after the commit. True if there is one now. Waits for transactions that have written to end.
///
/// While PostgreSQL looks for the slot's first snapshot, it ignores transactions that begin then, change catalogs and
/// commit (before SNAPBUILD_FULL_SNAPSHOT in replication/logical/snapbuild.c). Such a slot could never be read: "could
/// not map filenode to relation OID". So the slot is made again if catalogs have changed meanwhile. That is not needed
/// if no transaction was running at all: then the slot is consistent from the first record of running transactions on.
pub fn create(slot: &str) -> Result<bool> {
    if current::has_written() {
        return Ok(false);
    }
    current::note_slot_made()?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let next_xid = role::as_owner_in_pg_catalog(|| {
            NEXT_XID.with(|s| s.run(Access::Latest, &[], |rows| rows.one()?.need::<String>(1)))
        })?;
        role::as_owner(|| replication_slot::create(slot))?;
        let is = |statement: &'static LocalKey<Statement>, args: &[Arg]| -> Result<bool> {
            let run = |s: &Statement| s.run(Access::Latest, args, |rows| rows.one()?.need(1));
            role::as_owner_in_pg_catalog(|| statement.with(run))
        };
        if is(&UNCHANGED_SINCE, &[arg(next_xid)])? || is(&CONSISTENT_AT_ONCE, &[arg(slot)])? {
            return Ok(true);
        }
        role::as_owner_in_pg_catalog(|| delete(slot))?;
    }
    Err(Error::TablesChange(began.elapsed().as_secs()))
}

/// The text of the message that opens a source.
pub fn mark_text(slot: &str) -> String {
    format!("start {slot}")
}

/// Marks in WAL where the slot's changes begin to count: with the commit of this transaction.
pub fn mark(slot: &str) -> Result<()> {
    let args = [arg(output::PREFIX), arg(mark_text(slot))];
    role::as_owner_in_pg_catalog(|| MARK.with(|s| s.execute(&args))).map(drop)
}

/// A slot of this database's sources.
pub struct Slot {
    pub name: String,
    /// Some process reads it.
    pub active: bool,
}

/// The slots of this database's sources, and of its dropped ones. For workers, like the next two functions.
pub fn list(database: pg_sys::Oid) -> Result<Vec<Slot>> {
    let read = |row: Row| Ok(Slot { name: row.need(1)?, active: row.need(2)? });
    let args = [arg(database), arg(sources::slot_prefix(database))];
    LIST.with(|s| s.run(Access::Latest, &args, |rows| rows.iter().map(read).collect()))
}

/// Up to where the slot's changes have been read.
pub fn confirmed(slot: &str) -> Result<u64> {
    CONFIRMED.with(|s| s.run(Access::Latest, &[arg(slot)], |rows| rows.one()?.lsn(1)))
}

/// Drops a slot that no process reads.
pub fn delete(slot: &str) -> Result<()> {
    DROP.with(|s| s.run(Access::Snapshot, &[arg(slot)], |_| Ok(())))
}

/// The state of a slot.
pub struct State {
    pub exists: bool,
    /// The server has removed WAL that it needs.
    pub is_lost: bool,
    /// Its source has started.
    pub has_progress: bool,
}

pub fn state(slot: &str, source: i32, generation: i32) -> Result<State> {
    let run = |s: &Statement| {
        s.run(Access::Latest, &[arg(slot), arg(source), arg(generation)], |rows| {
            let row = rows.one()?;
            Ok(State { exists: row.need(1)?, is_lost: row.need(2)?, has_progress: row.need(3)? })
        })
    };
    role::as_owner_in_pg_catalog(|| STATE.with(run))
}
