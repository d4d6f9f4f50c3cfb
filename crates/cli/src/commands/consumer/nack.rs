use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer nack billing 4611686018427387905 --delay '30 s'

Prints how many took effect; exit code 4 if some came too late.")]
pub struct Nack {
    #[arg(value_name = "[STREAM] CONSUMER ACK_ID", required = true, num_args = 2..)]
    words: Vec<String>,
    /// Not before this time is over; the consumer's backoff, if that is not said
    #[arg(long, value_name = "INTERVAL")]
    delay: Option<String>,
}

impl Nack {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let (name, ids) = target::consumer_and_ids(&self.words)?;
        let statement = consumer::nack(&name, &ids, self.delay.as_deref());
        let rows = app.change_and_show(&statement).await?;
        Ok(target::exit_of(app, rows, "nacked", ids.len()))
    }
}
