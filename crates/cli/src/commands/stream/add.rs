use clap::Args;
use sequin_client::Result;
use sequin_client::calls::stream::{self, StreamSettings};

use super::settings::Settings;
use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin stream add invoices
  sequin stream add prices --one-message-per-key --dedup-window '1 hour'")]
pub struct Add {
    /// 1 to 48 of A-Z a-z 0-9 _
    #[arg(value_name = "NAME")]
    name: String,
    /// A new message replaces the one of its key
    #[arg(long)]
    one_message_per_key: bool,
    /// No index on key: inserting costs less, looking by key more
    #[arg(long)]
    no_key_index: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Add {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let settings = StreamSettings {
            one_message_per_key: self.one_message_per_key,
            without_key_index: self.no_key_index,
            ..self.settings.into_client()
        };
        let done = format!("stream \"{}\" is created", self.name);
        app.change_and_say(&stream::create(&self.name, &settings), &done).await
    }
}
