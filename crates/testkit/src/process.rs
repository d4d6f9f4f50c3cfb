//! Processes: starting them as the server's user, watching and ending them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Runs a command to its end; its output is in the failure.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Sends a signal; a process that has ended meanwhile is no failure. The shell's own kill needs no package.
pub fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let mut kill = Command::new("sh");
    kill.arg("-c").arg(format!("kill -{name} {pids}")).stderr(Stdio::null());
    kill.status().unwrap();
}

/// Stops a process, which does nothing more from then on: a signal is not there as soon as it is sent.
pub fn stop(pid: u32) {
    signal("STOP", &[pid]);
    let begun = Instant::now();
    while stat_fields(pid).is_some_and(|(state, _)| !matches!(state, 'T' | 'Z')) {
        assert!(begun.elapsed() < Duration::from_secs(60), "process {pid} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A process and its children, by what /proc says; the parent is first.
pub fn family(parent: u32) -> Vec<u32> {
    let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (stat_fields(pid)?.1 == parent).then_some(pid)
    });
    std::iter::once(parent).chain(children).collect()
}

pub fn is_zombie(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|(state, _)| state == 'Z')
}

/// A process' state and parent. The name before them may contain blanks and parentheses.
fn stat_fields(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The pg_config of the server that is tested.
pub fn default_pg_config() -> PathBuf {
    std::env::var_os("PG_CONFIG").unwrap_or("pg_config".into()).into()
}

/// The folder of the programs of a server, which its pg_config tells.
pub fn programs_of(pg_config: &Path) -> PathBuf {
    let output = succeed(Command::new(pg_config).arg("--bindir"));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Starts a process from a thread that ends only with the whole run of the tests: the process gets its death signal
/// when that thread ends.
pub fn spawn_for_life(mut command: Command) -> Child {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        sender.send(command.spawn()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().unwrap().unwrap()
}

/// PostgreSQL refuses root, so root runs it as user postgres (or SERVER_USER). The server gets SIGQUIT (an immediate
/// shutdown) when the thread that started it ends, so it can't outlive a run of the tests that is killed.
pub fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if let Some(user) = server_user() {
        let group = succeed(Command::new("id").args(["-gn", &user])).stdout;
        let group = String::from_utf8(group).unwrap();
        command.args(["--init-groups", "--reuid", &user, "--regid", group.trim()]);
    }
    command.arg("--").arg(program);
    // The server's user may not be able to enter the current directory.
    command.current_dir("/");
    // It would put backtraces into clients' DETAIL.
    command.env_remove("RUST_BACKTRACE");
    command
}

/// The user to run the server as; `None` for the current user.
pub fn server_user() -> Option<String> {
    let own_uid = fs::metadata("/proc/self").unwrap().uid();
    (own_uid == 0).then(|| std::env::var("SERVER_USER").unwrap_or("postgres".into()))
}
