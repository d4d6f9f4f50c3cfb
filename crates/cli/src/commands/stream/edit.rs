use clap::Args;
use sequin_client::Result;
use sequin_client::calls::stream;

use super::settings::Settings;
use crate::app::{App, Exit};
use crate::commands::consumer::edit::change_settings;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin stream edit orders --dedup-window '1 hour' --dry-run
  sequin stream edit orders --reset dedup_window --yes")]
pub struct Edit {
    #[arg(value_name = "STREAM")]
    stream: String,
    #[command(flatten)]
    settings: Settings,
    /// Set this setting to its default; may be repeated
    #[arg(long, value_name = "SETTING", value_delimiter = ',')]
    reset: Vec<String>,
}

impl Edit {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let change = stream::alter(&self.stream, &self.settings.into_client(), &self.reset);
        change_settings(app, &change, &stream::settings(&self.stream)).await
    }
}
