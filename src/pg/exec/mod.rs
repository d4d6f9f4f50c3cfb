//! Statements, scans, catalogs and rights: what the executor and the catalogs do for sequin.

pub mod array;
pub mod catalog;
pub mod condition;
pub mod datum;
pub mod dedup_rows;
pub mod input;
pub mod insert;
pub mod memory;
pub mod open_transactions;
pub mod owners;
pub mod partitions;
pub mod relcache;
pub mod role;
pub mod savepoint;
pub mod scan;
pub mod sequence;
pub mod settings;
pub mod snapshot;
pub mod spi;
pub mod stream_rows;
pub mod stream_table;
