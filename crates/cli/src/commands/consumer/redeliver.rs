use clap::Args;
use sequin_client::calls::consumer;
use sequin_client::{Error, Result};

use super::peek::stream_of;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer redeliver billing 1 2
  sequin consumer redeliver billing --where \"(data->>'amount')::numeric > 10\"

Prints how many come again: messages that are not finished, or don't match its filters, are not among them.")]
pub struct Redeliver {
    #[arg(value_name = "CONSUMER")]
    consumer: String,
    /// Seqs
    #[arg(value_name = "SEQ")]
    seqs: Vec<i64>,
    /// Messages for which this SQL condition over seq, key, data, headers, inserted_at is true
    #[arg(long = "where", value_name = "SQL", conflicts_with = "seqs")]
    condition: Option<String>,
}

impl Redeliver {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let statement = match &self.condition {
            Some(condition) => {
                let stream = stream_of(app, &self.consumer).await?;
                consumer::redeliver_where(&self.consumer, &stream, condition)
            }
            None if self.seqs.is_empty() => {
                return Err(Error::usage("which messages is not said")
                    .with_hint("Give their seqs, or --where."));
            }
            None => consumer::redeliver(&self.consumer, &self.seqs),
        };
        app.change_and_show(&statement).await?;
        Ok(Exit::Done)
    }
}
