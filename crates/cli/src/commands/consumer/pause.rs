use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer;

use super::target;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer pause billing")]
pub struct Pause {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
}

impl Pause {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        app.change_and_say(&consumer::pause(&name), &format!("consumer \"{name}\" is paused")).await
    }
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin consumer resume billing")]
pub struct Resume {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
}

impl Resume {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        app.change_and_say(&consumer::resume(&name), &format!("consumer \"{name}\" is resumed"))
            .await
    }
}
