use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::peek::stream_of;
use super::target;
use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer dead billing -o jsonl")]
pub struct Dead {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    /// The first so many
    #[arg(long, value_name = "COUNT")]
    first: Option<u64>,
}

impl Dead {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        if !app.options.as_sql {
            stream_of(app, &name).await?;
        }
        app.show(consumer::dead(&name, self.first), Layout::Table).await
    }
}
