use clap::Args;
use sequin_client::Result;
use sequin_client::calls::consumer::{self, Start};

use super::settings::Settings;
use crate::app::{App, Exit};
use crate::commands::time;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer add orders shipping --filter 'order.eu.>' --ack-wait '1 min' --max-deliver 5
  sequin consumer add orders history --start-time '1 day' --backoff '1 s,10 s'

What is not said is as the server has it by default: all keys, from the beginning of the stream.")]
pub struct Add {
    #[arg(value_name = "STREAM")]
    stream: String,
    /// 1 to 48 of A-Z a-z 0-9 _; unique in the database
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    settings: Settings,
    /// Begin with this seq
    #[arg(long, value_name = "SEQ")]
    start_seq: Option<i64>,
    /// Begin with messages of this time: an age ('1h') or a timestamp
    #[arg(long, value_name = "TIME", conflicts_with = "start_seq")]
    start_time: Option<String>,
    /// Only what is published from now on
    #[arg(long, conflicts_with_all = ["start_seq", "start_time"])]
    new_only: bool,
    /// Ask for nothing; which is so in any case
    #[arg(long, hide = true)]
    defaults: bool,
    /// pull is the only kind there is
    #[arg(long, hide = true, value_parser = ["pull"])]
    kind: Option<String>,
}

impl Add {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let start = match (self.start_seq, &self.start_time, self.new_only) {
            (Some(seq), _, _) => Start::Seq(seq),
            (None, Some(text), _) => Start::Time(time::sql(text)),
            (None, None, true) => Start::NewOnly,
            (None, None, false) => Start::Beginning,
        };
        let settings = self.settings.into_client();
        let statement = consumer::create(&self.stream, &self.name, &settings, &start);
        let done = format!("consumer \"{}\" of stream \"{}\" is created", self.name, self.stream);
        app.change_and_say(&statement, &done).await
    }
}
