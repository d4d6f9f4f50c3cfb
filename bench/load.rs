//! pgbench, which makes the load.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use sequin_testkit::cluster::Database;

/// Clients that make the load at the same time.
pub const CLIENTS: usize = 4;

/// Far longer than anything in the background is needed.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What a run came to.
#[derive(Clone, Copy)]
pub struct Done {
    pub transactions: f64,
    pub seconds: f64,
}

impl Done {
    pub fn per_second(self) -> f64 {
        self.transactions / self.seconds
    }
}

/// Runs a script for some time, with CLIENTS clients that prepare each statement once.
pub fn run(database: &Database, script: &str, duration: Duration) -> Done {
    finish(start(database, script, CLIENTS, &[&for_time(duration)])).0
}

/// The same, and each command of the script with its mean latency in milliseconds.
pub fn run_timed(
    database: &Database,
    script: &str,
    duration: Duration,
) -> (Done, Vec<(String, f64)>) {
    let timed = [&for_time(duration), "--report-per-command"];
    let (done, text) = finish(start(database, script, CLIENTS, &timed));
    let (_, commands) = text.split_once("statement latencies in milliseconds").unwrap();
    let command = |line: &str| {
        let (latency, text) = line.trim().split_once(' ')?;
        Some((text.into(), latency.parse().ok()?))
    };
    (done, commands.lines().filter_map(command).collect())
}

/// The same, until each client has run it so many times.
pub fn run_times(database: &Database, script: &str, times: usize) -> Done {
    finish(start(database, script, CLIENTS, &[&format!("--transactions={times}")])).0
}

/// pgbench's own load on its own tables, with two clients.
pub fn run_tpcb(database: &Database, duration: Duration) -> Done {
    let mut pgbench = database.cluster.client_program("pgbench");
    pgbench.args(["--no-vacuum", "--builtin=tpcb-like", "--client=2", "--jobs=1"]);
    pgbench.arg(for_time(duration)).arg(&database.name);
    finish(
        pgbench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cannot run pgbench"),
    )
    .0
}

fn for_time(duration: Duration) -> String {
    format!("--time={}", duration.as_secs())
}

/// What it came to, and its report.
fn finish(pgbench: Child) -> (Done, String) {
    let output = pgbench.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let number = |name| number_behind(name, &text);
    let failed = number("number of failed transactions: ");
    if !output.status.success() || failed.is_some_and(|failed| failed > 0.0) {
        panic!("pgbench: {}\n{text}{errors}", output.status);
    }
    let transactions = number("number of transactions actually processed: ").unwrap();
    let done = Done { transactions, seconds: transactions / number("tps = ").unwrap() };
    (done, text.into_owned())
}

/// Scripts that run until the value is dropped.
pub struct Background(Vec<Child>);

impl Background {
    /// One client for each script.
    pub fn start(database: &Database, scripts: impl Iterator<Item = String>) -> Self {
        Self(scripts.map(|script| start(database, &script, 1, &[&for_time(FOR_EVER)])).collect())
    }

    /// CLIENTS clients of one script, which run it so many times a second together.
    pub fn at_rate(database: &Database, script: &str, rate: u64) -> Self {
        let rate = format!("--rate={rate}");
        Self(vec![start(database, script, CLIENTS, &[&for_time(FOR_EVER), &rate])])
    }

    /// Many clients of one script.
    pub fn crowd(database: &Database, script: &str, clients: usize) -> Self {
        Self(vec![start(database, script, clients, &[&for_time(FOR_EVER)])])
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let ended = child.try_wait();
            let _ = child.kill();
            let _ = child.wait();
            if let Ok(Some(status)) = ended {
                eprintln!("pgbench in the background had ended: {status}");
            }
        }
    }
}

fn start(database: &Database, script: &str, clients: usize, arguments: &[&str]) -> Child {
    let mut pgbench = database.cluster.client_program("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared", "--file=-"]);
    pgbench.arg(format!("--client={clients}")).arg(format!("--jobs={}", clients.min(2)));
    pgbench.args(arguments).arg(&database.name);
    pgbench.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pgbench.spawn().expect("cannot run pgbench");
    // It ends, the script does, when the handle is dropped.
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child
}

/// The number behind a name in pgbench's report.
fn number_behind(name: &str, text: &str) -> Option<f64> {
    let (_, rest) = text.split_once(name)?;
    rest.split_whitespace().next()?.split('/').next()?.parse().ok()
}
