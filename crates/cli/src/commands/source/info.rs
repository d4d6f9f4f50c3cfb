use clap::Args;
use sequin_client::Result;
use sequin_client::calls::source;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin source info bank -o json")]
pub struct Info {
    #[arg(value_name = "SOURCE")]
    source: String,
}

impl Info {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        app.show_one(source::info(&self.source)).await
    }
}
