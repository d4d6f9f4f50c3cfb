use clap::Args;
use sequin_client::Result;
use sequin_client::calls::source;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin source rm bank --yes")]
pub struct Rm {
    #[arg(value_name = "SOURCE")]
    source: String,
}

impl Rm {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let question = format!("Drop source \"{}\", with its replication slot?", self.source);
        if !app.confirm(&question)? {
            return Ok(Exit::Error);
        }
        super::print_dry(app);
        let done = format!("source \"{}\" is dropped", self.source);
        app.change_and_say(&source::drop(&self.source), &done).await
    }
}
