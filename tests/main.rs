//! Black-box tests: real clients, on clusters of their own. Run by `make test`, or, after `scripts/install.sh`, by
//! `scripts/cargo.sh test --test black_box`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test fails

mod arguments;
mod calls;
mod harness;
mod others;
mod seed;

mod backup_role;
mod batches;
mod config;
mod crash;
mod damaged;
mod databases;
mod dead_rows;
mod dedup;
mod fast_path;
mod faults;
mod fencing;
mod foreign_schema;
mod in_the_way;
mod leases;
mod long_poll;
mod memory;
mod neighbours;
mod one_per_key;
mod order_across_restarts;
mod order_and_loss;
mod per_key;
mod promotion;
mod retention;
mod rewind;
mod savepoints;
mod scheduled;
mod session_role;
mod settings;
mod short_sessions;
mod snapshots;
mod sources;
mod sparse_filter;
mod torture;
mod tour;
mod transactions;
mod unloaded;
mod upgrade_path;

use std::process::ExitCode;

fn main() -> ExitCode {
    // `cargo pgrx test` runs every test target, with its own test build of the extension installed.
    if std::env::var_os("PGRX_BUILD_PROFILE").is_some() {
        println!("black-box tests are for the extension as it is shipped: make test");
        return ExitCode::SUCCESS;
    }
    harness::report_panics_with_their_tests();
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = [
        arguments::tests(),
        order_and_loss::tests(),
        leases::tests(),
        fast_path::tests(),
        batches::tests(),
        per_key::tests(),
        snapshots::tests(),
        transactions::tests(),
        order_across_restarts::tests(),
        savepoints::tests(),
        retention::tests(),
        rewind::tests(),
        sparse_filter::tests(),
        neighbours::tests(),
        one_per_key::tests(),
        in_the_way::tests(),
        promotion::tests(),
        scheduled::tests(),
        session_role::tests(),
        settings::tests(),
        config::tests(),
        fencing::tests(),
        short_sessions::tests(),
        long_poll::tests(),
        memory::tests(),
        unloaded::tests(),
        crash::tests(),
        damaged::tests(),
        databases::tests(),
        backup_role::tests(),
        faults::tests(),
        foreign_schema::tests(),
        dead_rows::tests(),
        dedup::tests(),
        upgrade_path::tests(),
        tour::tests(),
        sources::tests(),
        torture::tests(),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    harness::destroy_shared_clusters();
    conclusion.exit_code()
}
