//! Table sources: what is committed to tables becomes messages, once and in order.

mod columns;
pub mod fixture;
pub mod replay;

mod backfill;
mod changes;
mod databases;
mod failover;
mod keys;
mod large;
mod lifecycle;
mod lost;
pub mod northwind;
mod partitions;
mod pgbench;
mod processes;
mod publications;
mod rewritten;
mod schema_changes;
mod start;
mod status;
mod streaming;
mod toast;
mod types;

pub use fixture::{Fixture, Sources};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    // The longest ones first: nothing is then left alone at the end.
    let tests = [
        northwind::tests(),
        pgbench::tests(),
        large::tests(),
        lost::tests(),
        failover::tests(),
        processes::tests(),
        types::tests(),
        backfill::tests(),
        start::tests(),
        status::tests(),
        databases::tests(),
        lifecycle::tests(),
        streaming::tests(),
        toast::tests(),
        changes::tests(),
        rewritten::tests(),
        schema_changes::tests(),
        partitions::tests(),
        publications::tests(),
        keys::tests(),
    ];
    tests.into_iter().flatten().collect()
}
