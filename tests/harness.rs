//! What the tests share: one cluster, and the wrapper that adds the server's log to a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
        catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
            let message = (panic.downcast_ref::<String>().map(String::as_str))
                .or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("the test panicked");
            let log = SHARED.get().map(Cluster::log_tail).unwrap_or_default();
            Failed::from(format!("{message}\n{log}"))
        })
    })
}
