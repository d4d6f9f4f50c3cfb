use clap::Args;
use sequin_client::Result;
use sequin_client::calls::stream;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin stream info orders -o json")]
pub struct Info {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// The same as -o json
    #[arg(long, hide = true)]
    as_json: bool,
}

impl Info {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        if self.as_json {
            app.options.output = Some("json".into());
        }
        app.show_one(stream::info(&self.stream)).await
    }
}
