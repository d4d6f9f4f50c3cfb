//! The binary against a server with the extension as it is installed: `scripts/install.sh` first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how a test fails

mod commands;
mod connection;
mod documents;
mod examples;
mod harness;
mod manners;
mod round_trip;
mod sequin_0_3_7;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = [
        commands::tests(),
        connection::tests(),
        documents::tests(),
        examples::tests(),
        manners::tests(),
        round_trip::tests(),
        sequin_0_3_7::tests(),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    harness::destroy_cluster();
    conclusion.exit_code()
}
