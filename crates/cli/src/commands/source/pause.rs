use clap::Args;
use sequin_client::Result;
use sequin_client::calls::source;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin source pause bank")]
pub struct Pause {
    #[arg(value_name = "SOURCE")]
    source: String,
}

impl Pause {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let done = format!("source \"{}\" is paused", self.source);
        app.change_and_say(&source::pause(&self.source), &done).await
    }
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin source resume bank")]
pub struct Resume {
    #[arg(value_name = "SOURCE")]
    source: String,
}

impl Resume {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        super::print_dry(app);
        let done = format!("source \"{}\" is resumed", self.source);
        app.change_and_say(&source::resume(&self.source), &done).await
    }
}
