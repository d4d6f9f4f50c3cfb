//! Sequin: message streams inside PostgreSQL.
//!
//! - [`entry`]: what PostgreSQL looks up by name.
//! - [`api`]: the SQL functions. They check, call one thing, and shape the row.
//! - [`store`]: the tables and their statements, one file each.
//! - [`worker`]: the background workers: launcher, dispatcher and capturer, the loops around the pure crates.
//! - [`pg`]: PostgreSQL behind safe calls; with [`entry`] the only place where `unsafe` compiles.
//!
//! The rules are crates of their own, pure: [`sequin_engine`] (keys and filters, the tail and its holes, consumers,
//! recovery) and [`sequin_capture`] (from WAL to messages). Arrows run one way: api and worker use store, the pure
//! crates and pg; store uses pg. A session and its dispatcher communicate only through shared memory and tables.
//! ARCHITECTURE.md has the picture.

#![deny(unsafe_code)]

mod api;
mod entry;
mod error;
mod guc;
#[allow(unsafe_code)]
mod pg;
mod store;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod worker;

/// `#[pg_guard]` on a declaration of a C function expands to paths that begin with `crate::ffi`.
pub(crate) use pgrx::pg_sys::ffi;

pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
pgrx::extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = [
        api::stats::stream_stats,
        api::consumer_stats::consumer_stats,
        api::stats::duplicates,
        api::stats::last_seq,
        api::stats::inserted_at,
        api::stats::workers,
        api::source_stats::source_workers
    ]
);
pgrx::extension_sql_file!("../sql/grants.sql", name = "grants", requires = ["views"]);
pgrx::extension_sql_file!("../sql/comments.sql", name = "comments", finalize);

/// What `cargo pgrx test` asks for.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'sequin'"]
    }
}
