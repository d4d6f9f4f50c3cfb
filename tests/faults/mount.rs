//! A file system of a test's own, in memory, that can be nearly full. Unmounted with its value.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sequin_testkit::process::{server_user, succeed};

/// Its size where that doesn't matter, in MB.
const ROOMY: u64 = 512;

pub struct Mount(PathBuf);

/// Whether this process may mount anything: as root, or by sudo without a password.
pub fn is_possible() -> bool {
    let directory = std::env::temp_dir().join(format!("sequin-mount-{}", std::process::id()));
    let may_make = fs::create_dir(&directory).is_ok();
    let mut command = mount(&directory, &format!("size={ROOMY}m"));
    let may_mount = may_make && command.stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if may_mount {
        unmount(&directory);
    }
    let _ = fs::remove_dir(&directory);
    may_mount
}

impl Mount {
    /// Mounts one at a path, and makes the directory if need be. The server's user owns it.
    pub fn at(path: &Path) -> Self {
        unmount_leftovers();
        succeed(as_root("mkdir").arg("-p").arg(path));
        succeed(&mut mount(path, &format!("size={ROOMY}m,mode=0700")));
        let mount = Self(path.into());
        let own_id = || fs::metadata("/proc/self").unwrap().uid().to_string();
        let owner = server_user().unwrap_or_else(own_id);
        succeed(as_root("chown").arg(owner).arg(path));
        mount
    }

    /// Has it hold so many MB more than it does now, and nothing beyond.
    pub fn leave(&self, megabytes: u64) {
        let used =
            succeed(Command::new("df").args(["--output=used", "--block-size=1K"]).arg(&self.0));
        let used = String::from_utf8(used.stdout).unwrap();
        let used: u64 = used.lines().last().unwrap().trim().parse().unwrap();
        let size = used + (megabytes << 10);
        succeed(&mut mount(&self.0, &format!("remount,size={size}k")));
    }

    pub fn leave_much(&self) {
        self.leave(ROOMY);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn as_root(program: &str) -> Command {
    if server_user().is_some() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

fn mount(path: &Path, options: &str) -> Command {
    let mut command = as_root("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path);
    command
}

/// From the path at once; what still uses it, such as a server, keeps it until its end.
fn unmount(path: &Path) {
    let _ = as_root("umount").arg("--lazy").arg(path).status();
}

/// Those of runs that were killed: their directories, which have the process' id in their names, can't be removed as
/// long as something is mounted there.
fn unmount_leftovers() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let mut ours = Path::new(path)
            .iter()
            .filter_map(|name| name.to_str()?.strip_prefix("sequin-test-")?.split('-').next());
        if ours.next().is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount(Path::new(path));
        }
    }
}
