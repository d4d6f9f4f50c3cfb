//! The settings that a worker runs with.

use pgrx::pg_sys;
use std::ffi::CString;

/// Sets a setting for this worker only.
pub fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: names of settings that exist, with values that are right for them.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
}

/// Disables sequential and bitmap scans, so that statements use an index wherever there is one.
pub(in crate::pg) const BY_INDEX: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_indexscan", "on")];

/// Sets [`BY_INDEX`].
pub fn set_by_index() {
    BY_INDEX.iter().for_each(|(name, value)| set(name, value));
}

/// Settings that sequin's own statements in a worker rely on. They override those of ALTER DATABASE. Time zone and
/// locale stay the database's own: they decide what its values look like as text.
const DEFAULTS: &[(&str, &str)] = &[
    // A crash may lose the last commits, by design: their messages are delivered again, or captured again.
    ("synchronous_commit", "off"),
    // What names mean, and which rows are seen.
    ("search_path", "pg_catalog, pg_temp"),
    ("row_security", "off"),
    ("session_replication_role", "origin"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("standard_conforming_strings", "on"),
    // Whether a transaction may write, and what it may wait for.
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    ("transaction_timeout", "0"),
    // Where new tables and temporary files are put.
    ("default_tablespace", ""),
    ("temp_tablespaces", ""),
    // The statements touch a few rows: parallel workers and JIT would only cost.
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
];

/// Sets [`DEFAULTS`].
pub fn set_defaults() {
    be_superuser();
    DEFAULTS.iter().for_each(|(name, value)| set(name, value));
}

/// A database may have its sessions begin as another role: ALTER DATABASE .. SET role, or session_authorization.
/// Workers are the superuser that they were started as.
fn be_superuser() {
    // SAFETY: outside of a transaction, and looks nothing up; the worker was authenticated as this role.
    unsafe {
        let bootstrap = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        pg_sys::SetSessionAuthorization(bootstrap, true);
    }
    // Last: this makes the session's user the current one.
    set("role", "none");
}
