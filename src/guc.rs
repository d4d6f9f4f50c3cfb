//! The settings of the extension, `sequin.*`.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static MAX_DATABASES: GucSetting<i32> = GucSetting::<i32>::new(16);
static MAX_SOURCES: GucSetting<i32> = GucSetting::<i32>::new(16);

/// Defines the settings: from `_PG_init`.
pub fn register() {
    GucRegistry::define_int_guc(
        c"sequin.max_databases",
        c"The most databases of this server that can use sequin at a time.",
        c"Each takes one of max_worker_processes and about 1 kB of shared memory.",
        &MAX_DATABASES,
        1,
        1024,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sequin.max_sources",
        c"The most table sources of this server that can run at a time.",
        c"Each takes one of max_worker_processes and one of max_replication_slots.",
        &MAX_SOURCES,
        0,
        1024,
        GucContext::Postmaster,
        GucFlags::default(),
    );
}

/// The most databases that can use sequin at a time.
pub fn max_databases() -> i32 {
    MAX_DATABASES.get()
}

/// The most sources that can run at a time.
pub fn max_sources() -> i32 {
    MAX_SOURCES.get()
}
