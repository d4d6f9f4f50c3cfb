//! Where and how the figures were taken.

use std::fs;
use std::process::Command;

use crate::cluster::Cluster;
use crate::options::Options;

pub fn describe(cluster: &Cluster, options: &Options, config: &str) -> Vec<(&'static str, String)> {
    let mut client = cluster.connect("postgres");
    let postgres: String = client.query_one("SELECT version()", &[]).unwrap().get(0);
    let settings: Vec<&str> = config.lines().filter(|line| !line.is_empty()).collect();
    vec![
        ("machine", machine()),
        ("PostgreSQL", postgres),
        ("settings beyond the defaults", settings.join(", ")),
        ("sequin", commit()),
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default()),
        ("command", format!("`{}`", options.command())),
    ]
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or("unknown CPU".into());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kilobytes: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let gigabytes = kilobytes / f64::from(1 << 20);
    let kernel = output("uname", &["-sr"]).unwrap_or_default();
    format!("{cores} cores, {model}, {gigabytes:.0} GB of memory, {kernel}")
}

/// The value behind the first line `name : value` of a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().into())
}

/// The version, and the commit that it was built from.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        output("git", &[&["-C", env!("CARGO_MANIFEST_DIR")], arguments].concat())
    };
    let version = env!("CARGO_PKG_VERSION");
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return version.into() };
    let changed = git(&["status", "--porcelain", "--", "src", "sql", "Cargo.toml"]);
    let changed = if changed.is_some_and(|files| !files.is_empty()) { " with changes" } else { "" };
    format!("{version}, commit {commit}{changed}")
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().into())
}
