//! The replication slots of sources. Each is named after its database, its source and the source's generation, so
//! that one belongs to a source here if and only if its name says so.

use super::statement;
use crate::engine::stream::ConsumerId;
use crate::error::Result;
use crate::pg::spi::{Access, Row, arg};
use pgrx::pg_sys;

statement!(
    LIST,
    "SELECT slot_name::text, active, coalesce(wal_status = 'lost', false) \
     FROM pg_catalog.pg_replication_slots \
     WHERE datoid = $1 AND starts_with(slot_name::text, $2) ORDER BY slot_name",
    [OIDOID, TEXTOID]
);
statement!(CREATE, "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')", [TEXTOID]);
statement!(DROP, "SELECT pg_catalog.pg_drop_replication_slot($1)", [TEXTOID]);

/// A slot, as the server has it.
pub struct Slot {
    pub name: String,
    /// Some process reads it.
    pub active: bool,
    /// The server has removed WAL that it needs.
    pub lost: bool,
}

/// What the slot of a source is called.
pub fn name(database: pg_sys::Oid, source: ConsumerId, generation: i32) -> String {
    format!("{}{source}_{generation}", prefix(database))
}

fn prefix(database: pg_sys::Oid) -> String {
    format!("sequin_{}_", database.to_u32())
}

/// The slots of this database's sources, of those that are no more, too.
pub fn list(database: pg_sys::Oid) -> Result<Vec<Slot>> {
    let read = |row: Row| Ok(Slot { name: row.need(1)?, active: row.need(2)?, lost: row.need(3)? });
    let args = [arg(database), arg(prefix(database))];
    LIST.with(|s| s.run(Access::Latest, &args, |rows| rows.iter().map(read).collect()))
}

/// Makes a slot for pgoutput; changes that are committed from now on are in it. Waits until all transactions that
/// are open now have ended. Not in a transaction that has written.
pub fn create(name: &str) -> Result<()> {
    CREATE.with(|s| s.run(Access::Snapshot, &[arg(name)], |_| Ok(())))
}

/// Drops a slot that nobody reads.
pub fn drop(name: &str) -> Result<()> {
    DROP.with(|s| s.run(Access::Snapshot, &[arg(name)], |_| Ok(())))
}
