use clap::Args;
use sequin_client::calls::consumer;
use sequin_client::{Error, Result};

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer redrive billing 3
  sequin consumer redrive billing --all

Prints how many dead letters are delivered again.")]
pub struct Redrive {
    #[arg(value_name = "CONSUMER")]
    consumer: String,
    /// Seqs of dead letters
    #[arg(value_name = "SEQ")]
    seqs: Vec<i64>,
    /// All of them
    #[arg(long, conflicts_with = "seqs")]
    all: bool,
}

impl Redrive {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if self.seqs.is_empty() && !self.all {
            return Err(Error::usage("which dead letters is not said")
                .with_hint("Give their seqs, or --all."));
        }
        let seqs = (!self.all).then_some(self.seqs.as_slice());
        app.change_and_show(&consumer::redrive(&self.consumer, seqs)).await?;
        Ok(Exit::Done)
    }
}
