use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer ack billing 4611686018427387905

Prints how many took effect; exit code 4 if some came too late.")]
pub struct Ack {
    #[arg(value_name = "[STREAM] CONSUMER ACK_ID", required = true, num_args = 2..)]
    words: Vec<String>,
}

impl Ack {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let (name, ids) = target::consumer_and_ids(&self.words)?;
        let rows = app.change_and_show(&consumer::ack(&name, &ids)).await?;
        Ok(target::exit_of(app, rows, "acked", ids.len()))
    }
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer extend billing 4611686018427387905 --ack-wait '10 min'

Prints how many took effect; exit code 4 if some came too late.")]
pub struct Extend {
    #[arg(value_name = "[STREAM] CONSUMER ACK_ID", required = true, num_args = 2..)]
    words: Vec<String>,
    /// For this time from now, rather than the consumer's ack_wait
    #[arg(long, value_name = "INTERVAL")]
    ack_wait: Option<String>,
}

impl Extend {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let (name, ids) = target::consumer_and_ids(&self.words)?;
        let statement = consumer::extend(&name, &ids, self.ack_wait.as_deref());
        let rows = app.change_and_show(&statement).await?;
        Ok(target::exit_of(app, rows, "extended", ids.len()))
    }
}
