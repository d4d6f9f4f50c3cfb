use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer info billing -o 'format {lag} {ready}'")]
pub struct Info {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    /// The same as -o json
    #[arg(long, hide = true)]
    as_json: bool,
}

impl Info {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if self.as_json {
            app.options.output = Some("json".into());
        }
        app.show_one(consumer::info(&target::consumer(self.consumer))).await
    }
}
