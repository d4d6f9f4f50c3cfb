use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sequin_client::calls::source;
use sequin_client::{Error, Result};

use crate::app::{App, Exit};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin source backfill bank public.accounts
  sequin source backfill bank public.accounts --where 'balance > 50' --wait

Prints the job's id. Without --wait it goes on by itself; with it, Ctrl-C stops waiting, not the job.")]
pub struct Backfill {
    #[arg(value_name = "SOURCE")]
    source: String,
    #[arg(value_name = "TABLE")]
    table: String,
    /// Only rows for which this SQL condition is true
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    /// Wait until it is done, and show how far it is
    #[arg(short, long)]
    wait: bool,
}

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(200);

impl Backfill {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let statement = source::backfill(&self.source, &self.table, self.condition.as_deref());
        let rows = app.change_and_show(&statement).await?;
        let id = rows.and_then(|rows| rows.first_number("id"));
        let (Some(id), true, false) = (id, self.wait, app.options.dry_run) else {
            return Ok(Exit::Done);
        };
        let bar = progress_bar();
        loop {
            let state = app.query(&source::backfill_state(id)).await?;
            let rows = state.first_number("rows_read").unwrap_or_default();
            bar.set_length(state.first_number("rows_about").unwrap_or_default().max(rows) as u64);
            bar.set_position(rows as u64);
            match state.first("status") {
                Some("done") => {
                    bar.finish_and_clear();
                    app.say(&format!("backfill {id} is done: {rows} rows"));
                    return Ok(Exit::Done);
                }
                Some("pending" | "running") => {}
                status => {
                    bar.finish_and_clear();
                    let status = status.unwrap_or("gone, with its source");
                    let why = state.first("error").unwrap_or_default();
                    return Err(Error::local(format!("backfill {id} is {status}"))
                        .with_detail(format!("{rows} rows were read. {why}")));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = tokio::signal::ctrl_c() => {
                    bar.finish_and_clear();
                    app.say(&format!("backfill {id} goes on: {rows} rows so far. To end it: SELECT sequin.cancel_backfill({id});"));
                    return Ok(Exit::Interrupted);
                }
            }
        }
    }
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of about {len} rows") {
        bar.set_style(style);
    }
    bar
}
