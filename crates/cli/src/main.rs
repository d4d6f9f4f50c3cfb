//! The command `sequin`.
//!
//! - [`args`]: the options that all commands have; [`commands`]: one file for each command.
//! - [`app`]: how a command runs: connect, ask, run or print the SQL, show. [`output`]: the formats.
//! - [`suggest`]: similar names; [`lines`]: JSON lines of messages.

#![forbid(unsafe_code)]

mod app;
mod args;
mod commands;
mod lines;
mod output;
mod suggest;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::app::{App, Exit};
use crate::args::Sequin;

fn main() -> ExitCode {
    let matches = match Sequin::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return explain_usage(&error),
    };
    let parsed = match Sequin::from_arg_matches(&matches) {
        Ok(parsed) => parsed,
        Err(error) => return explain_usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One for the server's answers, one for reading and encoding.
        .worker_threads(2)
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(run(parsed));
            // A thread that waits for standard input is not waited for.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            eprintln!("sequin: error: {error}");
            Exit::Error
        }
    };
    ExitCode::from(exit as u8)
}

async fn run(sequin: Sequin) -> Exit {
    let mut app = App::new(sequin.options);
    match commands::run(sequin.command, &mut app).await {
        Ok(exit) => exit,
        Err(error) => app.fail(error).await,
    }
}

fn explain_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(Exit::Usage as u8),
    }
}
