use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use sequin_client::Result;
use sequin_client::calls::message::{self, Amount};

use super::Which;
use super::follow::Position;
use crate::app::{App, Exit};
use crate::output::{Layout, Printer};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin message view orders --last 5
  sequin message view orders --filter 'order.eu.>' --since 1h
  sequin message view orders --where \"data->>'amount' is not null\"
  sequin message view orders -o jsonl | sequin message send archive --from -

On a terminal these are the last 10 messages, elsewhere all of them. Nothing is leased.")]
pub struct View {
    #[arg(value_name = "STREAM")]
    stream: String,
    #[command(flatten)]
    which: Which,
    /// The last so many
    #[arg(long, value_name = "COUNT")]
    last: Option<u64>,
    /// The first so many
    #[arg(long, value_name = "COUNT", conflicts_with = "last")]
    first: Option<u64>,
    /// All of them
    #[arg(long, conflicts_with_all = ["last", "first"])]
    all: bool,
    /// Go on with what is published
    #[arg(short, long, conflicts_with = "first")]
    follow: bool,
    /// The same as -o table
    #[arg(long, hide = true)]
    table: bool,
}

/// On a terminal, where nothing else is said.
const SCREENFUL: u64 = 10;
/// How long --follow waits between two looks.
const PAUSE: Duration = Duration::from_millis(500);

impl View {
    fn amount(&self) -> Amount {
        match (self.first, self.last) {
            (Some(count), _) => Amount::First(count),
            (None, Some(count)) => Amount::Last(count),
            (None, None) if self.all || !std::io::stdout().is_terminal() => Amount::All,
            (None, None) => Amount::Last(SCREENFUL),
        }
    }

    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let mut selection = self.which.selection();
        let statement = message::view(&self.stream, &selection, self.amount());
        if app.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let mut printer = Printer::new(&app.format()?, Layout::Table, &statement.columns)?;
        app.query(&message::check(&self.stream, self.which.filter.as_deref())).await?;
        if !self.follow {
            let count = app.print_stream(&statement, &mut printer, |_| true).await?;
            printer.end()?;
            return Ok(if count == 0 { Exit::Nothing } else { Exit::Done });
        }
        let mut position = Position::default();
        let mut next = statement;
        loop {
            // Asked before the look: what was final then is in what it sees.
            let settled = app.query(&message::settled(&self.stream)).await?.first_number("settled");
            app.print_stream(&next, &mut printer, |row| position.is_new(seq_of(row))).await?;
            position.settle(settled.unwrap_or_default());
            printer.flush()?;
            selection.after_seq = selection.after_seq.max(Some(position.after()));
            next = message::view(&self.stream, &selection, Amount::All);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = tokio::signal::ctrl_c() => {
                    printer.end()?;
                    return Ok(Exit::Done);
                }
            }
        }
    }
}

fn seq_of(row: &sequin_client::rows::Row) -> i64 {
    row.first().and_then(Option::as_deref).and_then(|seq| seq.parse().ok()).unwrap_or_default()
}
