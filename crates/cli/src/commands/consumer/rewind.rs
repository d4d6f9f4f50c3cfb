use clap::Args;
use sequin_client::calls::consumer::{self, Target};
use sequin_client::{Error, Result};

use super::peek::stream_of;
use super::target;
use crate::app::{App, Exit};
use crate::commands::time;
use crate::output::Layout;

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer rewind billing --to-time '1 hour' --dry-run
  sequin consumer rewind billing --back 2 --yes
  sequin consumer rewind billing --to-seq 1 --yes
  sequin consumer rewind billing --like audit --yes
  sequin consumer rewind billing --to-start --yes

--dry-run says how many messages come again. What is in flight is void then: its ack_ids are dead.")]
pub struct Rewind {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    #[command(flatten)]
    to: To,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To this seq
    #[arg(long, value_name = "SEQ")]
    to_seq: Option<i64>,
    /// To the first message of this time: an age ('1 hour') or a timestamp
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// So many messages back from the ack floor, of those that its filters let through
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    back: Option<u32>,
    /// To where another consumer of the stream is
    #[arg(long, value_name = "CONSUMER")]
    like: Option<String>,
    /// To the beginning of the stream
    #[arg(long)]
    to_start: bool,
}

impl To {
    fn target(self) -> Target {
        let seq = self.to_seq.map(Target::Seq);
        let time = self.to_time.map(|text| Target::Time(time::sql(&text)));
        let back = self.back.map(Target::Back);
        let like = self.like.map(Target::Like);
        seq.or(time).or(back).or(like).unwrap_or(Target::Beginning)
    }
}

impl Rewind {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        let format = app.format()?;
        let to = self.to.target();
        let stream = stream_of(app, &name).await?;
        let statement = consumer::rewind(&name, &to, &stream);
        if app.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        if app.options.dry_run {
            let preview = app.query(&consumer::preview_rewind(&name, &to, &stream)).await?;
            if preview.rows.is_empty() {
                return Err(nowhere(&to));
            }
            format.print(Layout::Record, &preview)?;
            app.say("dry run: nothing was changed");
            return Ok(Exit::Done);
        }
        if !app.confirm(&format!("Rewind consumer \"{name}\"?"))? {
            return Ok(Exit::Error);
        }
        let rows = app.query(&statement).await?;
        if rows.rows.is_empty() {
            return Err(nowhere(&to));
        }
        app.say(&format!("consumer \"{name}\" is rewound"));
        Ok(Exit::Done)
    }
}

/// There is no such place: nothing was done.
fn nowhere(to: &Target) -> Error {
    match to {
        Target::Like(other) => {
            Error::local(format!("consumer \"{other}\" has no known place in the same stream"))
                .with_hint("List the consumers: sequin consumer ls")
        }
        _ => Error::local("the consumer has finished no message to go back to")
            .with_hint("--to-start goes to the beginning of the stream."),
    }
}
