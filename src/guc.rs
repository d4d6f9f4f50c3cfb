//! The settings of the extension, `sequin.*`.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static MAX_DATABASES: GucSetting<i32> = GucSetting::<i32>::new(16);
static MAX_SOURCES: GucSetting<i32> = GucSetting::<i32>::new(16);
static DISPATCHER_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(256 << 10);

/// Defines the settings. Called from `_PG_init`.
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
    GucRegistry::define_int_guc(
        c"sequin.dispatcher_memory",
        c"The memory that the consumers of a database may take together in its dispatcher.",
        c"What the largest have loaded and not delivered is forgotten beyond that, and read again when somebody asks.",
        &DISPATCHER_MEMORY,
        1 << 10,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
}

/// The memory that the consumers of a database may take together in its dispatcher, in bytes.
pub fn dispatcher_memory() -> usize {
    usize::try_from(DISPATCHER_MEMORY.get()).unwrap_or(0) << 10
}

/// The most databases that can use sequin at a time.
pub fn max_databases() -> i32 {
    MAX_DATABASES.get()
}

/// The most sources that can run at a time.
pub fn max_sources() -> i32 {
    MAX_SOURCES.get()
}
