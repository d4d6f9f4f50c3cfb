use clap::Args;
use sequin_client::Result;
use sequin_client::calls::stream;

use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin stream ls
  sequin stream ls -o 'format {stream} {messages}'")]
pub struct Ls {}

impl Ls {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        app.show(stream::list(), Layout::Table).await
    }
}
