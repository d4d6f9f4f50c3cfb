//! The tables: one file each, with its rows and its statements.
//!
//! Statements that run with the extension owner's rights name everything in full, operators too, so that no
//! caller's search_path can slip in others.

pub mod acks;
pub mod checkpoints;
pub mod consumers;
pub mod dead_letters;
pub mod epoch;
pub mod messages;
pub mod outbox;
pub mod streams;
#[cfg_attr(not(any(test, feature = "pg_test")), expect(dead_code))]
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
