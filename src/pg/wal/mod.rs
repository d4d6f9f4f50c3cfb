//! Logical decoding: reading changes from WAL, with what the catalogs said at the moment of the change.

mod caches;
pub mod decode;
pub mod generated;
pub mod moment;
pub mod output;
pub mod position;
pub mod replication_slot;
pub mod spool;
pub mod transactions;
