//! A PostgreSQL cluster for tests: in a temporary directory, reached by a socket there, and removed when its value is
//! dropped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::process::{
    as_server_user, default_pg_config, family, is_zombie, programs_of, server_user, signal,
    spawn_for_life, stop, succeed,
};

/// How long a server may take to start (crash recovery included) or to stop, on a busy machine.
const SERVER_DEADLINE: Duration = Duration::from_secs(60);

/// The socket is in a directory of its own, so that every cluster can have the same port.
const PORT: u16 = 5432;

const CONFIG: &str = "
shared_preload_libraries = 'sequin'
listen_addresses = ''
max_connections = 200
max_worker_processes = 32
shared_buffers = '64MB'
max_wal_size = '2GB'
autovacuum_naptime = '5s'
log_line_prefix = '%m [%p] %b %d '
";

/// How the server is stopped: the modes of `pg_ctl stop -m`.
#[derive(Clone, Copy)]
pub enum Stop {
    Fast,
    Immediate,
}

pub struct Cluster {
    /// The folder of the server's programs.
    programs: PathBuf,
    directory: PathBuf,
    postmaster: Mutex<Option<Child>>,
}

impl Cluster {
    /// A fresh cluster with the extension preloaded, started.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with lines for postgresql.conf that override the defaults.
    pub fn start_with(config: &str) -> Self {
        let cluster = Self::stopped();
        cluster.create(config);
        cluster
    }

    /// Creates the files of a cluster that has none yet, and starts it.
    pub fn create(&self, config: &str) {
        let data = self.data();
        let mut initdb = as_server_user(&self.program("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "--encoding=UTF8"]);
        // As is the default from 18 on, and pg_upgrade wants it to be the same.
        initdb.arg("--data-checksums");
        succeed(initdb.args(["--locale=C", "--no-sync", "--no-instructions"]));

        let file = data.join("postgresql.conf");
        let defaults = fs::read_to_string(&file).unwrap();
        let socket = format!("unix_socket_directories = '{}'", self.directory.display());
        fs::write(file, format!("{defaults}\n{CONFIG}\n{socket}\nport = {PORT}\n{config}\n"))
            .unwrap();
        self.boot();
    }

    /// A hot standby of this cluster, started.
    pub fn standby(&self) -> Self {
        self.standby_with("")
    }

    /// The same, with lines for postgresql.conf that override the primary's.
    pub fn standby_with(&self, config: &str) -> Self {
        let standby = Self::stopped_of(self.programs.clone());
        let data = standby.data();
        let mut copy = as_server_user(&self.program("pg_basebackup"));
        copy.arg("-D").arg(&data).args(["-U", "postgres", "--checkpoint=fast", "--no-sync"]);
        copy.arg("--write-recovery-conf").arg("-h").arg(&self.directory);
        succeed(copy.args(["-p", &PORT.to_string()]));
        let mut file = fs::File::options().append(true).open(data.join("postgresql.conf")).unwrap();
        let socket = format!("unix_socket_directories = '{}'", standby.directory.display());
        // What is replayed waits for queries, rather than cancel them.
        let patience = "max_standby_streaming_delay = -1\nmax_standby_archive_delay = -1";
        writeln!(file, "{socket}\n{patience}\n{config}").unwrap();
        standby.boot();
        standby
    }

    /// A cluster without files yet: only its directory.
    pub fn stopped() -> Self {
        Self::stopped_of(programs_of(&default_pg_config()))
    }

    /// The same, of the server whose programs are in this folder.
    pub fn stopped_of(programs: PathBuf) -> Self {
        Self { programs, directory: fresh_directory(), postmaster: Mutex::new(None) }
    }

    /// Starts the stopped server, and returns once it accepts connections.
    pub fn boot(&self) {
        let mut postmaster = self.postmaster.lock().unwrap();
        assert!(postmaster.is_none(), "the server is up already");
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = as_server_user(&self.program("postgres"));
        command.arg("-D").arg(self.data());
        command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        let mut child = spawn_for_life(command);
        let deadline = Instant::now() + SERVER_DEADLINE;
        while self.try_connect("postgres").is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the server ended with {status} (is sequin installed?)\n{}",
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the server did not start in {SERVER_DEADLINE:?}\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
        *postmaster = Some(child);
    }

    /// Stops the server, and returns once it has ended.
    pub fn stop(&self, mode: Stop) {
        let Some(mut child) = self.postmaster.lock().unwrap().take() else { return };
        signal(if matches!(mode, Stop::Fast) { "INT" } else { "QUIT" }, &[child.id()]);
        let deadline = Instant::now() + SERVER_DEADLINE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                signal("KILL", &family(child.id()));
                child.wait().unwrap();
                panic!("the server did not stop in {SERVER_DEADLINE:?}\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn restart(&self) {
        self.stop(Stop::Fast);
        self.boot();
    }

    /// kill -9 of the postmaster and of all its children, as close to simultaneously as possible. The server stays
    /// down.
    pub fn kill_9(&self) {
        let Some(mut child) = self.postmaster.lock().unwrap().take() else { return };
        // Stopped, it can't start more children, which would survive.
        stop(child.id());
        let mut family = family(child.id());
        signal("KILL", &family);
        child.wait().unwrap();
        // Until the last one is gone, its shared memory keeps a new server from starting.
        wait_until("the killed server's children are gone", SERVER_DEADLINE, || {
            family.retain(|pid| Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(*pid));
            family.is_empty()
        });
    }

    /// How to connect to a database.
    pub fn config(&self, database: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host_path(&self.directory).port(PORT).user("postgres").dbname(database);
        config.application_name("black_box");
        config
    }

    pub fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.config(database).connect(NoTls)
    }

    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        match self.try_connect(database) {
            Ok(client) => client,
            Err(error) => panic!("no connection to {database}: {error:?}"),
        }
    }

    /// A new database of this name, with the extension; dropped with the value.
    pub fn database(&self, name: &str) -> Database<'_> {
        let database = self.database_without_extension(name);
        database.connect().batch_execute("CREATE EXTENSION sequin").unwrap();
        database
    }

    pub fn database_without_extension(&self, name: &str) -> Database<'_> {
        let mut client = self.connect("postgres");
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        Database { cluster: self, name: name.into() }
    }

    /// One of the server's client programs (psql, pg_dump ..), with this cluster's address in its environment.
    pub fn client_program(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        command.env("PGHOST", &self.directory).env("PGPORT", PORT.to_string());
        command.env("PGUSER", "postgres").env_remove("PGDATABASE").stdin(Stdio::null());
        command
    }

    /// A program of the server.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The end of the server's log, for the report of a failure.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 60;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
        format!("--- end of {} ---\n{tail}\n---", self.log().display())
    }

    /// Kills the server and removes its files.
    pub fn destroy(&self) {
        // A poisoned lock is a test that failed while it started or stopped the server.
        let child = self.postmaster.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(mut child) = child {
            signal("KILL", &family(child.id()));
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        self.destroy();
    }
}

/// A database of a test's own.
pub struct Database<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl Database<'_> {
    pub fn connect(&self) -> Client {
        self.cluster.connect(&self.name)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // It may be gone already, renamed, or the server down.
        if let Ok(mut client) = self.cluster.try_connect("postgres") {
            let _ = client
                .batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// Waits for a condition, by looking again and again; fails at the deadline.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A new directory that the server's user owns. Also removes the directories of runs that were killed.
fn fresh_directory() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    const PREFIX: &str = "sequin-test-";
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    if let Some(user) = server_user() {
        succeed(Command::new("chown").arg(user).arg(&directory));
    }
    directory
}
