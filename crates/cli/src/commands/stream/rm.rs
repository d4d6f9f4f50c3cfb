use clap::Args;
use sequin_client::Result;
use sequin_client::calls::stream;

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin stream rm orders --force --yes")]
pub struct Rm {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// Also if it has consumers or sources: they go with it
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let question = format!("Drop stream \"{}\" with all its messages?", self.stream);
        if !app.confirm(&question)? {
            return Ok(Exit::Error);
        }
        let done = format!("stream \"{}\" is dropped", self.stream);
        app.change_and_say(&stream::drop(&self.stream, self.force), &done).await
    }
}
