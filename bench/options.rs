//! What the command line, or else the environment, says.

use std::time::Duration;

pub const USAGE: &str =
    "usage: make bench [ARGS=\"[--rounds N] [--seconds N] [--held N] [--long] [SECTION...]\"]
  --rounds   how often each figure is taken (or ROUNDS; default 9)
  --seconds  how long a figure of throughput is taken (default 2)
  --held     how many seconds a snapshot is held next to peers (default 300)
  --long     what else only whole runs do: backlogs of 10,000,000, and plots
  SECTION    latency, idle, throughput, flat, horizons, scale, consumers, dead, sources, peers (default: all)
             of the peers: peers-publish, -consume, -cycle, -cost, -latency, -order,
             -crowd, -backlog, -horizon
  The cluster is in TMPDIR, or /tmp: with TMPDIR=/dev/shm no disk has a part in the figures.";

/// Five minutes.
const HELD_SECONDS: usize = 300;

pub struct Options {
    pub rounds: usize,
    pub seconds: u64,
    /// How long a snapshot is held next to peers.
    pub held_seconds: usize,
    takes_long: bool,
    sections: Vec<String>,
}

impl Options {
    pub fn of_command_line(known: &[&str]) -> Result<Self, String> {
        let rounds = match std::env::var("ROUNDS") {
            Ok(rounds) => number(Some(&rounds), "ROUNDS")?,
            Err(_) => 9,
        };
        let mut options = Self {
            rounds,
            seconds: 2,
            held_seconds: HELD_SECONDS,
            takes_long: false,
            sections: Vec::new(),
        };
        // Cargo adds --bench.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => options.rounds = number(arguments.next().as_deref(), "--rounds")?,
                "--seconds" => options.seconds = number(arguments.next().as_deref(), "--seconds")?,
                "--held" => options.held_seconds = number(arguments.next().as_deref(), "--held")?,
                "--long" => options.takes_long = true,
                section if known.iter().any(|name| is_in(name, section)) => {
                    options.sections.push(argument);
                }
                _ => return Err(format!("unknown argument: {argument}")),
            }
        }
        Ok(options)
    }

    pub fn includes(&self, section: &str) -> bool {
        self.is_whole() || self.sections.iter().any(|name| is_in(section, name))
    }

    pub fn is_whole(&self) -> bool {
        self.sections.is_empty()
    }

    /// What takes minutes for a single figure, and charts of it.
    pub fn takes_long(&self) -> bool {
        self.is_whole() || self.takes_long
    }

    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The command that takes these figures again.
    pub fn command(&self) -> String {
        let mut arguments =
            vec![format!("--rounds {}", self.rounds), format!("--seconds {}", self.seconds)];
        if self.held_seconds != HELD_SECONDS {
            arguments.push(format!("--held {}", self.held_seconds));
        }
        arguments.extend(self.takes_long.then(|| "--long".into()));
        arguments.extend(self.sections.iter().cloned());
        format!("make bench ARGS=\"{}\"", arguments.join(" "))
    }
}

/// `peers` is a group: all sections whose names begin so.
fn is_in(section: &str, group: &str) -> bool {
    section.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// At least 1.
fn number<T: std::str::FromStr + PartialOrd + From<u8>>(
    value: Option<&str>,
    name: &str,
) -> Result<T, String> {
    let number = value.and_then(|value| value.parse().ok()).filter(|number| *number >= T::from(1));
    number.ok_or_else(|| format!("{name} needs a number"))
}
