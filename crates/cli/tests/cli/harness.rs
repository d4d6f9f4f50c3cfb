//! A cluster of all tests, a database for each, and the binary with the database in its environment.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use sequin_testkit::cluster::{Cluster, Database, wait_until};

/// As a source needs it.
const CONFIG: &str = "wal_level = logical\nmax_worker_processes = 64\nmax_replication_slots = 16\n";

pub const PATIENCE: Duration = Duration::from_secs(120);

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// The cluster that the tests share. Started by the first of them.
pub fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| Cluster::start_with(CONFIG))
}

/// Ends it. A static is never dropped.
pub fn destroy_cluster() {
    if let Some(cluster) = CLUSTER.get() {
        cluster.destroy();
    }
}

pub struct Fixture {
    pub database: Database<'static>,
    /// Where contexts and ~/.pgpass are.
    pub home: tempdir::Directory,
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Fixture {
    pub fn new(name: &str) -> Self {
        Self::of(cluster().database(name), name)
    }

    pub fn without_extension(name: &str) -> Self {
        Self::of(cluster().database_without_extension(name), name)
    }

    fn of(database: Database<'static>, name: &str) -> Self {
        Self { database, home: tempdir::Directory::new(name) }
    }

    /// The binary, with nothing of this process' own environment that would lead it elsewhere.
    pub fn command(&self) -> Command {
        let mut command = bare();
        let psql = self.database.cluster.client_program("psql");
        for (name, value) in psql.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("PGDATABASE", &self.database.name).env("HOME", self.home.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments), b"")
    }

    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        run(self.command().args(arguments), input)
    }

    /// Runs it, and wants it to succeed. Returns what is on standard output.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        run.out
    }

    /// A line in a shell, where the command is `sequin`.
    pub fn shell(&self, line: &str) -> Run {
        let folder = Path::new(env!("CARGO_BIN_EXE_sequin")).parent().unwrap();
        let mut command = Command::new("sh");
        command.env_clear().arg("-c").arg(line).current_dir(self.home.path());
        for (name, value) in self.command().get_envs() {
            command.env(name, value.unwrap());
        }
        let path = std::env::var("PATH").unwrap();
        run(command.env("PATH", format!("{}:{path}", folder.display())), b"")
    }

    pub fn sql(&self, sql: &str) {
        self.database.connect().batch_execute(sql).unwrap();
    }

    /// Waits until a command prints this.
    #[track_caller]
    pub fn until(&self, arguments: &[&str], expected: &str) {
        wait_until(&format!("{arguments:?} prints {expected:?}"), PATIENCE, || {
            self.run(arguments).out.contains(expected)
        });
    }
}

pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sequin"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command, input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // It may end before it has read all of it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    run_of(&output)
}

pub fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub fn run_of(output: &Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub mod tempdir {
    use std::path::{Path, PathBuf};

    /// A folder that is removed with its value.
    pub struct Directory(PathBuf);

    impl Directory {
        pub fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("sequin-cli-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Tests named after their module and function: `trials![late_ack, ...]`.
macro_rules! trials {
    ($($function:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(
            concat!(module_path!(), "::", stringify!($function)).trim_start_matches("cli::"),
            || {
                $function();
                Ok(())
            },
        )),*]
    };
}
pub(crate) use trials;
