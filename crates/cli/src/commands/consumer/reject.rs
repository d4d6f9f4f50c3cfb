use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer reject billing 4611686018427387905 --reason 'amount too high'

Prints how many took effect; exit code 4 if some came too late.")]
pub struct Reject {
    #[arg(value_name = "[STREAM] CONSUMER ACK_ID", required = true, num_args = 2..)]
    words: Vec<String>,
    /// Why, for those who look at the dead letters
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Reject {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let (name, ids) = target::consumer_and_ids(&self.words)?;
        let statement = consumer::reject(&name, &ids, self.reason.as_deref());
        let rows = app.change_and_show(&statement).await?;
        Ok(target::exit_of(app, rows, "rejected", ids.len()))
    }
}
