use clap::Args;
use sequin_client::Result;
use sequin_client::calls::source;

use crate::app::{App, Exit};
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Example:
  sequin source ls")]
pub struct Ls {}

impl Ls {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        app.show(source::list(), Layout::Table).await
    }
}
