//! The CPU time that a server has used, by what /proc says.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use sequin_testkit::cluster::Cluster;
use sequin_testkit::process::succeed;

const DURATION: Duration = Duration::from_secs(20);

/// What connecting and creating has left behind is done by then.
const SETTLING: Duration = Duration::from_secs(3);

/// What [`share_when_idle`] measures.
pub const WHAT: &str = "CPU time of all the server's processes in 20 s";

/// The part of a core that a server uses of which nobody wants anything.
pub fn share_when_idle(cluster: &Cluster) -> f64 {
    thread::sleep(SETTLING);
    share_over(cluster, DURATION)
}

/// The same for some time from now on.
pub fn share_over(cluster: &Cluster, duration: Duration) -> f64 {
    let (begun, before) = (Instant::now(), seconds(cluster));
    thread::sleep(duration);
    (seconds(cluster) - before) / begun.elapsed().as_secs_f64()
}

/// Seconds, of the postmaster, of its children, and of those that have ended.
pub fn seconds(cluster: &Cluster) -> f64 {
    let file = cluster.data().join("postmaster.pid");
    let postmaster: u32 =
        fs::read_to_string(file).unwrap().lines().next().unwrap().parse().unwrap();
    let ticks_per_second = succeed(Command::new("getconf").arg("CLK_TCK")).stdout;
    let ticks_per_second: f64 =
        String::from_utf8(ticks_per_second).unwrap().trim().parse().unwrap();
    let ended = Stat::of(postmaster).unwrap().ticks_of_children / ticks_per_second;
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = Stat::of(pid)?;
        let is_ours = pid == postmaster || stat.parent == postmaster;
        is_ours.then(|| precise_seconds(pid).unwrap_or(stat.ticks / ticks_per_second))
    });
    processes.sum::<f64>() + ended
}

/// By the scheduler, in nanoseconds: a hundred processes that use a few ticks each are many lost parts of a tick.
fn precise_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

struct Stat {
    parent: u32,
    ticks: f64,
    ticks_of_children: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain blanks and parentheses. What follows it starts with field 3 of proc(5).
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            parent: field(4)? as u32,
            ticks: field(14)? + field(15)?,
            ticks_of_children: field(16)? + field(17)?,
        })
    }
}
