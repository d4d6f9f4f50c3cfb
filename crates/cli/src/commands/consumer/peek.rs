use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit, missing};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer peek billing
  sequin consumer peek billing --pending --last 20

Leases nothing. pending: in flight until not_visible_until. Messages that are finished above the first one that isn't are
shown as available. Exit code 3 if there is nothing.")]
pub struct Peek {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    /// Only what is in flight
    #[arg(long)]
    pending: bool,
    /// The last so many
    #[arg(long, value_name = "COUNT", conflicts_with = "first")]
    last: Option<u64>,
    /// The first so many: 10, if nothing is said
    #[arg(long, value_name = "COUNT")]
    first: Option<u64>,
}

impl Peek {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        const SCREENFUL: u64 = 10;
        let name = target::consumer(self.consumer);
        let format = app.format()?;
        let stream = stream_of(app, &name).await?;
        let count = self.last.or(self.first).unwrap_or(SCREENFUL);
        let statement = consumer::peek(&name, &stream, self.pending, self.last.is_some(), count);
        if app.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let rows = app.query(&statement).await?;
        format.print(Layout::Table, &rows)?;
        Ok(if rows.rows.is_empty() { Exit::Nothing } else { Exit::Done })
    }
}

/// The stream of a consumer.
pub async fn stream_of(app: &mut App, name: &str) -> Result<String> {
    let statement = consumer::stream_of(name);
    let rows = app.query(&statement).await?;
    rows.first("stream").map(str::to_owned).ok_or_else(|| missing(&statement))
}
