//! Logical decoding: reading changes from WAL, and what the decoder learns at that moment.

pub mod decode;
pub mod generated;
pub mod moment;
pub mod replication_slot;
pub mod spool;
pub mod transactions;
