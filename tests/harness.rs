//! What the tests share: one cluster, and the wrapper that adds the server's log to a failure.

use std::cell::{Cell, RefCell};
use std::panic::{self, catch_unwind};
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

use crate::cluster::{Cluster, Database};

static SHARED: OnceLock<Cluster> = OnceLock::new();

/// The cluster of the tests that neither stop nor crash the server. Started by the first of them.
pub fn shared_cluster() -> &'static Cluster {
    SHARED.get_or_init(Cluster::start)
}

/// A database of the test's own on the shared cluster, with the extension.
pub fn database(name: &str) -> Database<'static> {
    DATABASE.set(Some(name.into()));
    shared_cluster().database(name)
}

pub fn destroy_shared_cluster() {
    if let Some(cluster) = SHARED.get() {
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
            let log = DATABASE.take().map(|name| shared_log_of(&name)).unwrap_or_default();
            Failed::from(format!("{message}\n{log}"))
        })
    })
}

thread_local! {
    static IN_TRIAL: Cell<bool> = const { Cell::new(false) };
    /// The message and place of this thread's last panic.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The last database on the shared cluster that this thread's test has made.
    static DATABASE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A failure is reported once, with its test. The threads that a test starts report theirs themselves.
pub fn report_panics_with_their_tests() {
    panic::set_hook(Box::new(|info| match IN_TRIAL.get() {
        true => PANIC.set(Some(info.to_string())),
        false => eprintln!("{info}"),
    }));
}

/// The end of what the shared server's log says about a database.
fn shared_log_of(database: &str) -> String {
    const LINES: usize = 30;
    let Some(cluster) = SHARED.get() else { return String::new() };
    let log = std::fs::read_to_string(cluster.log()).unwrap_or_default();
    let mark = format!(" {database} ");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&mark)).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("--- the server's log of database {database} ---\n{tail}\n---")
}
