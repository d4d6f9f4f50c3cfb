//! `sequin source`

mod add;
mod backfill;
mod info;
mod ls;
mod pause;
mod rm;

use clap::Subcommand;
use sequin_client::Result;

use crate::app::{App, Exit};

#[derive(Subcommand)]
pub enum Command {
    /// Have changes of tables published to a stream
    #[command(visible_alias = "create")]
    Add(add::Add),
    /// List the sources
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// All about a source
    #[command(visible_alias = "show")]
    Info(info::Info),
    /// Stop capturing; the slot keeps WAL meanwhile
    Pause(pause::Pause),
    /// Capture again
    Resume(pause::Resume),
    /// Drop a source, with its slot
    #[command(visible_aliases = ["remove", "drop"])]
    Rm(rm::Rm),
    /// Publish the rows that a table has
    Backfill(backfill::Backfill),
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    match command {
        Command::Add(add) => add.run(app).await,
        Command::Ls(ls) => ls.run(app).await,
        Command::Info(info) => info.run(app).await,
        Command::Pause(pause) => pause.run(app).await,
        Command::Resume(resume) => resume.run(app).await,
        Command::Rm(rm) => rm.run(app).await,
        Command::Backfill(backfill) => backfill.run(app).await,
    }
}

/// A slot is made and dropped at once, whatever becomes of the transaction: a dry run says the SQL, and tries nothing.
fn print_dry(app: &mut App) {
    if app.options.dry_run && !app.options.as_sql {
        app.say("dry run: nothing was tried; this would run");
        app.options.as_sql = true;
    }
}
