//! What the tests share: their clusters, and the wrapper that adds the server's log to a failure.

use std::cell::{Cell, RefCell};
use std::panic::{self, catch_unwind};
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

use sequin_testkit::cluster::{Cluster, Database};

static SHARED: OnceLock<Cluster> = OnceLock::new();
static LOGICAL: OnceLock<Cluster> = OnceLock::new();

/// What a cluster with table sources needs.
pub const LOGICAL_DECODING: &str = "
wal_level = logical
max_replication_slots = 32
max_worker_processes = 64
";

/// The cluster of the tests that neither stop nor crash the server. Started by the first of them.
pub fn shared_cluster() -> &'static Cluster {
    SHARED.get_or_init(Cluster::start)
}

/// The same for the tests of table sources. A slot decodes all of its cluster's WAL: that of the other tests would
/// only take their time.
pub fn logical_cluster() -> &'static Cluster {
    LOGICAL.get_or_init(|| Cluster::start_with(LOGICAL_DECODING))
}

/// A database of the test's own on the shared cluster, with the extension.
pub fn database(name: &str) -> Database<'static> {
    database_of(shared_cluster(), name)
}

/// A database of the test's own on a cluster that lives as long, with the extension.
pub fn database_of(cluster: &'static Cluster, name: &str) -> Database<'static> {
    DATABASE.set(Some((cluster, name.into())));
    cluster.database(name)
}

pub fn destroy_shared_clusters() {
    for cluster in [SHARED.get(), LOGICAL.get()].into_iter().flatten() {
        cluster.destroy();
    }
}

/// A test named after its module and its function: `trials![late_ack, ...]`.
macro_rules! trials {
    ($($function:ident),* $(,)?) => {
        vec![$(crate::harness::trial(concat!(module_path!(), "::", stringify!($function)), $function)),*]
    };
}
pub(crate) use trials;

pub fn trial(name: &str, test: fn()) -> Trial {
    let name = name.trim_start_matches("black_box::");
    Trial::test(name, move || {
        IN_TRIAL.set(true);
        DATABASE.take();
        catch_unwind(test).map_err(|_| {
            let message = PANIC.take().unwrap_or_default();
            let log = DATABASE.take().map(|(cluster, name)| log_of(cluster, &name));
            let log = log.unwrap_or_default();
            Failed::from(format!("{message}\n{log}"))
        })
    })
}

thread_local! {
    static IN_TRIAL: Cell<bool> = const { Cell::new(false) };
    /// The message and place of this thread's last panic.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The last database on a shared cluster that this thread's test has made.
    static DATABASE: RefCell<Option<(&'static Cluster, String)>> = const { RefCell::new(None) };
}

/// A failure is reported once, with its test. The threads that a test starts report theirs themselves.
pub fn report_panics_with_their_tests() {
    panic::set_hook(Box::new(|info| match IN_TRIAL.get() {
        true => PANIC.set(Some(info.to_string())),
        false => eprintln!("{info}"),
    }));
}

/// The end of what a server's log says about a database.
fn log_of(cluster: &Cluster, database: &str) -> String {
    const LINES: usize = 30;
    let log = std::fs::read_to_string(cluster.log()).unwrap_or_default();
    let mark = format!(" {database} ");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&mark)).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("--- the server's log of database {database} ---\n{tail}\n---")
}
