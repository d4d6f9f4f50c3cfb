use std::io::Write;

use clap::Args;
use sequin_client::calls::consumer;
use sequin_client::sql::Statement;
use sequin_client::{Error, Result};

use super::settings::Settings;
use super::target;
use crate::app::{App, Exit, missing};

#[derive(Args)]
#[command(after_help = "Examples:
  sequin consumer edit billing --ack-wait '5 min' --dry-run
  sequin consumer edit billing --max-deliver 3 --backoff '1 s,1 min' --yes

Prints the settings that change, as they were and as they are then. --max-deliver 0 takes the limit away, --backoff ''
the waits.")]
pub struct Edit {
    #[arg(value_name = "[STREAM] CONSUMER", required = true, num_args = 1..=2)]
    consumer: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// Set this setting to its default; may be repeated
    #[arg(long, value_name = "SETTING", value_delimiter = ',')]
    reset: Vec<String>,
    /// Give it to this role
    #[arg(long, value_name = "ROLE")]
    owner: Option<String>,
}

impl Edit {
    pub async fn run(self, app: &mut App) -> Result<Exit> {
        let name = target::consumer(self.consumer);
        let settings = self.settings.into_client();
        let change = consumer::alter(&name, &settings, self.owner.as_deref(), &self.reset);
        change_settings(app, &change, &consumer::settings(&name)).await
    }
}

/// Makes a change, shows what it makes of the settings, and keeps it if that is wanted. The server says what changes: it
/// is tried in a transaction that is rolled back while somebody thinks about it.
pub async fn change_settings(
    app: &mut App,
    change: &Statement,
    settings: &Statement,
) -> Result<Exit> {
    if app.prints_sql(change)? {
        return Ok(Exit::Done);
    }
    let before = app.query(settings).await?;
    if before.rows.is_empty() {
        return Err(missing(settings));
    }
    app.session().await?.execute("BEGIN").await?;
    app.query(change).await?;
    let after = app.query(settings).await?;
    app.session().await?.execute("ROLLBACK").await?;
    let lines = differences(before.first("settings"), after.first("settings"))?;
    if lines.is_empty() {
        app.say("nothing changes");
        return Ok(Exit::Done);
    }
    for line in lines {
        writeln!(std::io::stdout(), "{line}")?;
    }
    if app.options.dry_run {
        app.say("dry run: nothing was changed");
        return Ok(Exit::Done);
    }
    if !app.confirm_if_interactive("Change these settings?")? {
        return Ok(Exit::Error);
    }
    app.query(change).await?;
    app.say("changed");
    Ok(Exit::Done)
}

/// Lines with - and + for each setting that differs.
fn differences(before: Option<&str>, after: Option<&str>) -> Result<Vec<String>> {
    type Map = std::collections::BTreeMap<String, Box<serde_json::value::RawValue>>;
    let read = |text: Option<&str>| -> Result<Map> {
        serde_json::from_str(text.unwrap_or("{}")).map_err(|error| Error::local(error.to_string()))
    };
    let (before, after) = (read(before)?, read(after)?);
    let mut lines = Vec::new();
    for (name, new) in &after {
        let old = before.get(name).map_or("null", |value| value.get());
        if old != new.get() {
            lines.push(format!("- {name}: {old}"));
            lines.push(format!("+ {name}: {new}"));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::differences;

    #[test]
    fn only_what_differs_is_shown() {
        let lines = differences(
            Some(r#"{"a": 1, "b": "00:00:30", "c": [1]}"#),
            Some(r#"{"a": 1, "b": "00:05:00", "c": [1]}"#),
        );
        assert_eq!(lines.unwrap(), ["- b: \"00:00:30\"", "+ b: \"00:05:00\""]);
        assert!(differences(Some("{}"), Some("{}")).unwrap().is_empty());
    }
}
