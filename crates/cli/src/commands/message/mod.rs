//! `sequin message`

mod count;
mod follow;
mod get;
pub mod send;
mod send_file;
pub mod view;

use clap::{Args, Subcommand};
use sequin_client::Result;
use sequin_client::calls::message::Selection;

use super::time;
use crate::app::{App, Exit};

#[derive(Subcommand)]
pub enum Command {
    /// Publish a message, or a file of them
    #[command(visible_aliases = ["publish", "pub"])]
    Send(send::Send),
    /// Show messages of a stream; leases nothing
    View(view::View),
    /// Show one message, by its seq or as the last of its key
    Get(get::Get),
    /// Count messages of a stream
    Count(count::Count),
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    match command {
        Command::Send(send) => send.run(app).await,
        Command::View(view) => view.run(app).await,
        Command::Get(get) => get.run(app).await,
        Command::Count(count) => count.run(app).await,
    }
}

/// Which messages.
#[derive(Args)]
pub struct Which {
    /// Only keys that match: * is one token, > at the end one or more
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Only where this SQL condition over seq, key, data, headers, inserted_at is true
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Only from this time on: an age ('1h', '2 days') or a timestamp
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only above this seq
    #[arg(long, value_name = "SEQ")]
    pub after_seq: Option<i64>,
}

impl Which {
    pub fn selection(&self) -> Selection {
        Selection {
            filter: self.filter.clone(),
            condition: self.condition.clone(),
            since: self.since.as_deref().map(time::sql),
            until: self.until.as_deref().map(time::sql),
            after_seq: self.after_seq,
        }
    }
}
