//! `sequin stream`

mod add;
mod edit;
mod info;
mod ls;
mod purge;
mod rm;
mod settings;

use clap::Subcommand;
use sequin_client::Result;

use super::message;
use crate::app::{App, Exit};

#[derive(Subcommand)]
pub enum Command {
    /// Create a stream
    #[command(visible_alias = "create")]
    Add(add::Add),
    /// List the streams
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// All about a stream
    #[command(visible_alias = "show")]
    Info(info::Info),
    /// Change settings of a stream; shows the difference
    Edit(edit::Edit),
    /// Drop a stream, with its messages
    #[command(visible_aliases = ["remove", "drop"])]
    Rm(rm::Rm),
    /// Delete messages of a stream
    Purge(purge::Purge),
    /// The same as sequin message send
    Send(message::send::Send),
    /// The same as sequin message view
    View(message::view::View),
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    match command {
        Command::Add(add) => add.run(app).await,
        Command::Ls(ls) => ls.run(app).await,
        Command::Info(info) => info.run(app).await,
        Command::Edit(edit) => edit.run(app).await,
        Command::Rm(rm) => rm.run(app).await,
        Command::Purge(purge) => purge.run(app).await,
        Command::Send(send) => send.run(app).await,
        Command::View(view) => view.run(app).await,
    }
}
