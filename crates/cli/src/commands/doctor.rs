//! `sequin doctor`: the checks are one statement, sql/doctor.sql, so that --as-sql prints them.

use std::io::{IsTerminal, Write};

use clap::Args;
use sequin_client::Result;
use sequin_client::rows::{Kind, Rows};
use sequin_client::sql::Statement;

use crate::app::{App, Exit};
use crate::output::{Format, Layout};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin doctor
  sequin doctor -o jsonl

Each check is ok, or it is a warning or an error, with what is wrong, since when, and the remedy as SQL. Exit code 1 if
there is an error. Members of pg_monitor see all; others what they may.")]
pub struct Doctor {}

const COLUMNS: [(&str, Kind); 5] = [
    ("name", Kind::Text),
    ("status", Kind::Text),
    ("since", Kind::Time),
    ("what", Kind::Text),
    ("remedy", Kind::Text),
];

impl Doctor {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let sql = include_str!("../../sql/doctor.sql").trim_end();
        let statement = Statement::new(sql, &COLUMNS);
        if app.prints_sql(&statement)? {
            return Ok(Exit::Done);
        }
        let format = app.format()?;
        let rows = app.query(&statement).await?;
        match format {
            Format::Table => print(&rows)?,
            other => other.print(Layout::Table, &rows)?,
        }
        let has_error = rows.all("status").any(|status| status == "error");
        Ok(if has_error { Exit::Error } else { Exit::Done })
    }
}

/// For people: a line for each check, and what to do below it.
fn print(rows: &Rows) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for row in &rows.rows {
        let [name, status, since, what, remedy] = &row[..] else { continue };
        let status = status.as_deref().unwrap_or_default();
        let colour = match (has_colour, status) {
            (false, _) => None,
            (true, "ok") => Some(32),
            (true, "warning") => Some(33),
            (true, _) => Some(31),
        };
        let padded = format!("{status:<8}");
        let shown = colour.map_or(padded.clone(), |code| format!("\x1b[{code}m{padded}\x1b[0m"));
        writeln!(out, "{shown} {}", name.as_deref().unwrap_or_default())?;
        if let Some(what) = what {
            writeln!(out, "         {what}")?;
        }
        if let Some(since) = since {
            writeln!(out, "         since {since}")?;
        }
        if let Some(remedy) = remedy {
            writeln!(out, "         {remedy}")?;
        }
    }
    Ok(())
}
