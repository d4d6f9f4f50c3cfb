use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer rm billing --yes")]
pub struct Rm {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    /// Don't ask: the same as --yes
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        let question =
            format!("Drop consumer \"{name}\", with its place in the stream and its dead letters?");
        if !self.force && !app.confirm(&question)? {
            return Ok(Exit::Error);
        }
        app.change_and_say(&consumer::drop(&name), &format!("consumer \"{name}\" is dropped")).await
    }
}
