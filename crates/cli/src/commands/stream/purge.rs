use clap::Args;
use sequin_client::calls::stream;
use sequin_client::sql::literal;
use sequin_client::{Error, Result};

use crate::app::{App, Exit};
use crate::commands::time;
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin stream purge orders --before-time '30 days' --dry-run
  sequin stream purge orders --before-seq 1000 --yes
  sequin stream purge orders --all --yes

Prints how many messages were deleted. With --dry-run, how many would be.")]
pub struct Purge {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// Only messages with a lower seq
    #[arg(long, value_name = "SEQ")]
    before_seq: Option<i64>,
    /// Only messages that are older: an age ('30 days') or a timestamp
    #[arg(long, value_name = "TIME")]
    before_time: Option<String>,
    /// All messages
    #[arg(long, conflicts_with_all = ["before_seq", "before_time"])]
    all: bool,
}

impl Purge {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if !self.all && self.before_seq.is_none() && self.before_time.is_none() {
            return Err(Error::usage("which messages are to go is not said")
                .with_hint("Say --before-seq, --before-time, or --all."));
        }
        let time = match self.all {
            true => Some(literal("infinity")),
            false => self.before_time.as_deref().map(time::sql),
        };
        if app.options.dry_run {
            let count = stream::count_purge(&self.stream, self.before_seq, time.as_deref());
            return app.show(count, Layout::Value).await;
        }
        if !app.confirm(&format!("Delete these messages of stream \"{}\"?", self.stream))? {
            return Ok(Exit::Error);
        }
        let statement = stream::purge(&self.stream, self.before_seq, time.as_deref());
        app.change_and_show(&statement).await?;
        Ok(Exit::Done)
    }
}
