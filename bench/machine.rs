//! Where and how the figures were taken.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Instant;

use crate::options::Options;
use crate::sample::median;
use sequin_testkit::cluster::Cluster;

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
        ("load average at the start", load_average()),
        ("cluster in", std::env::temp_dir().display().to_string()),
        ("write and fdatasync of 8 kB there at the start", sync_time()),
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

/// Of the last minute: what else the machine was doing.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().into()
}

/// What a commit waits for at the least, by the median.
pub fn sync_time() -> String {
    const TIMES: u64 = 200;
    let path = std::env::temp_dir().join(format!("sequin-bench-{}", std::process::id()));
    let file = fs::File::create(&path).unwrap();
    let times = (0..TIMES).map(|n| {
        let begun = Instant::now();
        file.write_all_at(&[1; 8192], n % 16 * 8192).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    });
    let median = median(&times.collect::<Vec<_>>());
    fs::remove_file(path).unwrap();
    format!("{median:.2} ms")
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
