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
pub mod epoch;
pub mod messages;
pub mod outbox;
pub mod publications;
pub mod slots;
pub mod source_progress;
pub mod sources;
pub mod streams;
pub mod tables;
pub mod types;

/// Declares a statement that each session plans once.
macro_rules! statement {
    ($name:ident, $sql:expr, [$($oid:ident),* $(,)?]) => {
        thread_local! {
            static $name: crate::pg::spi::Statement =
                const { crate::pg::spi::Statement::new($sql, &[$(pgrx::pg_sys::$oid),*]) };
        }
    };
}
pub(crate) use statement;
