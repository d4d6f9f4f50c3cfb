//! The commands, one file each.

pub mod bench;
pub mod check;
pub mod complete;
pub mod completions;
pub mod consumer;
pub mod context;
pub mod doctor;
pub mod man;
pub mod message;
pub mod source;
pub mod stream;
pub mod time;

use clap::Subcommand;
use sequin_client::Result;

use crate::app::{App, Exit};

#[derive(Subcommand)]
pub enum Command {
    /// Streams: tables of messages that are only inserted into
    #[command(subcommand, visible_aliases = ["str", "s"])]
    Stream(stream::Command),
    /// Messages: send, view, get, count
    #[command(subcommand, visible_aliases = ["msg", "m"])]
    Message(message::Command),
    /// Consumers: a name, a place in a stream, and what is in flight
    #[command(subcommand, visible_aliases = ["con", "c"])]
    Consumer(consumer::Command),
    /// Sources: table changes as messages
    #[command(subcommand, visible_aliases = ["src"])]
    Source(source::Command),
    /// Contexts: names for connections
    #[command(subcommand, visible_aliases = ["ctx"])]
    Context(context::Command),
    /// Look for what is wrong, or soon will be, and say the remedy
    Doctor(doctor::Doctor),
    /// Check one consumer, stream or source against limits, for monitoring
    #[command(subcommand)]
    Check(check::Command),
    /// Measure what this server does: publish, receive, ack
    Bench(bench::Bench),
    /// Print the completion script of a shell
    Completions(completions::Completions),
    /// Print the manual page of a command, or write them all
    Man(man::Man),
    /// What may come next on a command line
    #[command(name = "__complete", hide = true)]
    Complete(complete::Complete),
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    match command {
        Command::Stream(command) => stream::run(command, app).await,
        Command::Message(command) => message::run(command, app).await,
        Command::Consumer(command) => consumer::run(command, app).await,
        Command::Source(command) => source::run(command, app).await,
        Command::Context(command) => context::run(command, app),
        Command::Doctor(doctor) => doctor.run(app).await,
        Command::Check(command) => check::run(command, app).await,
        Command::Bench(bench) => bench.run(app).await,
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::Complete(complete) => complete.run(app).await,
    }
}
