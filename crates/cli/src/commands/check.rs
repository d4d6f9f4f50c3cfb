//! `sequin check`: one object against limits, as monitoring wants it.

use clap::{Args, Subcommand, ValueEnum};
use sequin_client::Result;
use sequin_client::rows::Kind;
use sequin_client::sql::{Noun, Statement, literal};

use crate::app::{App, Exit, missing};

#[derive(Subcommand)]
#[command(after_help = EXIT_CODES)]
pub enum Command {
    /// A consumer: what it has not delivered, the age of what is not acked, dead letters
    Consumer(Consumer),
    /// A stream: its size, and how long a transaction has been open that has published
    Stream(Stream),
    /// A source: how far it is behind
    Source(Source),
}

const EXIT_CODES: &str =
    "Exit codes are those of a Nagios plugin: 0 ok, 1 warning, 2 critical, 3 unknown.";

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Nagios,
    Prometheus,
    Json,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin check consumer billing --lag-warn 1000 --lag-critical 100000 --format nagios
  sequin check consumer billing --oldest-warn 600 --oldest-critical 3600

Exit codes are those of a Nagios plugin: 0 ok, 1 warning, 2 critical, 3 unknown.")]
pub struct Consumer {
    #[arg(value_name = "CONSUMER")]
    name: String,
    /// Messages that are not delivered: ready, delayed, withheld, or not loaded
    #[arg(long, value_name = "COUNT")]
    lag_warn: Option<f64>,
    #[arg(long, value_name = "COUNT")]
    lag_critical: Option<f64>,
    /// Age of the oldest message that is not acked, in seconds
    #[arg(long, value_name = "SECONDS")]
    oldest_warn: Option<f64>,
    #[arg(long, value_name = "SECONDS")]
    oldest_critical: Option<f64>,
    /// Dead letters there are
    #[arg(long, value_name = "COUNT")]
    dead_warn: Option<f64>,
    #[arg(long, value_name = "COUNT")]
    dead_critical: Option<f64>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin check stream orders --bytes-critical 1e12 --publisher-warn 300

Exit codes are those of a Nagios plugin: 0 ok, 1 warning, 2 critical, 3 unknown.")]
pub struct Stream {
    #[arg(value_name = "STREAM")]
    name: String,
    /// Size on disk
    #[arg(long, value_name = "BYTES")]
    bytes_warn: Option<f64>,
    #[arg(long, value_name = "BYTES")]
    bytes_critical: Option<f64>,
    /// For how long a transaction has been open that has published, in seconds
    #[arg(long, value_name = "SECONDS")]
    publisher_warn: Option<f64>,
    #[arg(long, value_name = "SECONDS")]
    publisher_critical: Option<f64>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Args)]
#[command(after_help = "Example:
  sequin check source bank --lag-warn 1e8 --lag-critical 1e10 --format prometheus

Exit codes are those of a Nagios plugin: 0 ok, 1 warning, 2 critical, 3 unknown.")]
pub struct Source {
    #[arg(value_name = "SOURCE")]
    name: String,
    /// WAL that is not captured yet
    #[arg(long, value_name = "BYTES")]
    lag_warn: Option<f64>,
    #[arg(long, value_name = "BYTES")]
    lag_critical: Option<f64>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A number and its limits.
struct Measure {
    name: &'static str,
    /// As the name of a metric has it; empty for counts.
    unit: &'static str,
    warn: Option<f64>,
    critical: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    fn word(self) -> &'static str {
        ["OK", "WARNING", "CRITICAL", "UNKNOWN"][self as usize]
    }
}

impl Measure {
    fn state(&self, value: f64) -> State {
        let above = |limit: Option<f64>| limit.is_some_and(|limit| value >= limit);
        match (above(self.critical), above(self.warn)) {
            (true, _) => State::Critical,
            (_, true) => State::Warning,
            _ => State::Ok,
        }
    }
}

pub async fn run(command: Command, app: &mut App) -> Result<Exit> {
    let measure = |name, unit, warn, critical| Measure { name, unit, warn, critical };
    let (noun, name, sql, measures, format) = match command {
        Command::Consumer(c) => (
            Noun::Consumer,
            c.name,
            "SELECT status, last_error, lag + ready + delayed + withheld AS lag,
       coalesce(extract(epoch FROM now() - oldest_unacked_at), 0)::numeric(20, 1) AS oldest,
       (SELECT count(*) FROM sequin.dead_letters d WHERE d.consumer = s.consumer) AS dead
FROM sequin.consumer_stats s WHERE consumer = ",
            vec![
                measure("lag", "", c.lag_warn, c.lag_critical),
                measure("oldest", "seconds", c.oldest_warn, c.oldest_critical),
                measure("dead", "", c.dead_warn, c.dead_critical),
            ],
            c.format,
        ),
        Command::Stream(s) => (
            Noun::Stream,
            s.name,
            "SELECT 'active' AS status, NULL AS last_error, bytes,
       coalesce(extract(epoch FROM now() - oldest_publisher_since), 0)::numeric(20, 1) AS publisher
FROM sequin.stream_stats s WHERE stream = ",
            vec![
                measure("bytes", "", s.bytes_warn, s.bytes_critical),
                measure("publisher", "seconds", s.publisher_warn, s.publisher_critical),
            ],
            s.format,
        ),
        Command::Source(s) => (
            Noun::Source,
            s.name,
            "SELECT status, last_error, lag_bytes AS lag FROM sequin.source_stats s WHERE source = ",
            vec![measure("lag", "bytes", s.lag_warn, s.lag_critical)],
            s.format,
        ),
    };
    let columns: Vec<(&'static str, Kind)> = [("status", Kind::Text), ("last_error", Kind::Text)]
        .into_iter()
        .chain(measures.iter().map(|measure| (measure.name, Kind::Int)))
        .collect();
    let statement = Statement::new(format!("{sql}{}", literal(&name)), &columns).names(noun, &name);
    if app.prints_sql(&statement)? {
        return Ok(Exit::Done);
    }
    let rows = match app.query(&statement).await {
        Ok(rows) if rows.rows.is_empty() => Err(missing(&statement)),
        other => other,
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            app.fail(error).await;
            println!("UNKNOWN - {} {name}", noun.word());
            return Ok(exit(State::Unknown));
        }
    };
    let status = rows.first("status").unwrap_or("unknown").to_owned();
    let values: Vec<(&Measure, Option<f64>)> = measures
        .iter()
        .map(|measure| (measure, rows.first(measure.name).and_then(|value| value.parse().ok())))
        .collect();
    let state_of = |(measure, value): &(&Measure, Option<f64>)| {
        value.map_or(State::Unknown, |value| measure.state(value))
    };
    let worst = values.iter().map(state_of).chain([state_of_status(&status)]).max();
    let worst = worst.unwrap_or(State::Unknown);
    print(format, noun, &name, &status, rows.first("last_error"), &values, worst);
    Ok(exit(worst))
}

/// What the server says of an object.
fn state_of_status(status: &str) -> State {
    match status {
        "active" | "streaming" | "backfilling" | "starting" => State::Ok,
        "paused" => State::Warning,
        "unknown" => State::Unknown,
        _ => State::Critical,
    }
}

fn exit(state: State) -> Exit {
    match state {
        State::Ok => Exit::Done,
        State::Warning => Exit::Error,
        State::Critical => Exit::Usage,
        State::Unknown => Exit::Nothing,
    }
}

fn print(
    format: Format,
    noun: Noun,
    name: &str,
    status: &str,
    last_error: Option<&str>,
    values: &[(&Measure, Option<f64>)],
    state: State,
) {
    let known = values.iter().filter_map(|(measure, value)| Some((measure, (*value)?)));
    match format {
        Format::Text | Format::Nagios => {
            let numbers: Vec<String> =
                known.clone().map(|(m, value)| format!("{} {value}", m.name)).collect();
            let error = last_error.map_or(String::new(), |error| format!(": {error}"));
            let mut line = format!("{} - {} {name} is {status}{error}", state.word(), noun.word());
            line.push_str(&format!(", {}", numbers.join(", ")));
            if matches!(format, Format::Nagios) {
                let limit = |limit: Option<f64>| limit.map_or(String::new(), |n| n.to_string());
                let data: Vec<String> = known
                    .map(|(m, value)| {
                        let unit = if m.unit == "seconds" { "s" } else { "" };
                        format!("{}={value}{unit};{};{}", m.name, limit(m.warn), limit(m.critical))
                    })
                    .collect();
                line = format!("{} | {}", line.replace('|', "/"), data.join(" "));
            }
            println!("{line}");
        }
        Format::Prometheus => {
            let kind = noun.word();
            println!("sequin_check_state{{{kind}=\"{name}\"}} {}", state as u8);
            for (measure, value) in known {
                let unit = if measure.unit.is_empty() {
                    String::new()
                } else {
                    format!("_{}", measure.unit)
                };
                println!("sequin_{kind}_{}{unit}{{{kind}=\"{name}\"}} {value}", measure.name);
            }
        }
        Format::Json => {
            let numbers: serde_json::Map<String, serde_json::Value> =
                known.map(|(m, value)| (m.name.to_owned(), value.into())).collect();
            println!(
                "{}",
                serde_json::json!({ noun.word(): name, "state": state.word(), "status": status, "last_error": last_error, "values": numbers })
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_limit_is_over_it() {
        let measure = Measure { name: "lag", unit: "", warn: Some(10.0), critical: Some(20.0) };
        let states = [9.0, 10.0, 20.0].map(|value| measure.state(value));
        assert_eq!(states, [State::Ok, State::Warning, State::Critical]);
        assert_eq!(state_of_status("damaged"), State::Critical);
    }
}
