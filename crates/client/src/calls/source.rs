//! Table sources.

use super::where_name;
use crate::rows::Kind;
use crate::sql::{Call, Noun, Statement};

/// sequin.create_source(): of tables, or of a publication.
pub fn create(
    name: &str,
    stream: &str,
    tables: &Option<Vec<String>>,
    publication: Option<&str>,
    key_format: Option<&str>,
    has_backfill: bool,
) -> Statement {
    let call = Call::new("create_source").text(name).text(stream);
    let call = call.with_array("tables", tables).with("publication", publication);
    let call = call.with("key_format", key_format);
    let call = call.with_number("backfill", (!has_backfill).then_some(false));
    call.void().names(Noun::Stream, stream)
}

/// sequin.drop_source()
pub fn drop(name: &str) -> Statement {
    Call::new("drop_source").text(name).void().names(Noun::Source, name)
}

pub fn pause(name: &str) -> Statement {
    Call::new("pause_source").text(name).void().names(Noun::Source, name)
}

pub fn resume(name: &str) -> Statement {
    Call::new("resume_source").text(name).void().names(Noun::Source, name)
}

/// sequin.backfill(): a job that reads a table, or the rows of it that a condition selects.
pub fn backfill(name: &str, table: &str, condition: Option<&str>) -> Statement {
    let call = Call::new("backfill").text(name).text(table).with("condition", condition);
    call.scalar("id", Kind::Int).names(Noun::Source, name)
}

/// How far a backfill is.
pub fn backfill_state(id: i64) -> Statement {
    let sql = format!(
        "SELECT b.id, b.tbl::regclass AS table, b.status, b.rows_read, b.error,
       (SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class c WHERE c.oid = b.tbl) AS rows_about
FROM sequin.backfills b WHERE b.id = {id}"
    );
    let columns = [
        ("id", Kind::Int),
        ("table", Kind::Text),
        ("status", Kind::Text),
        ("rows_read", Kind::Int),
        ("error", Kind::Text),
        ("rows_about", Kind::Int),
    ];
    Statement::new(sql, &columns)
}

pub fn list() -> Statement {
    let sql = "SELECT source, stream, status, lag_bytes, retained_bytes, captured_total, last_commit_time,
       backfills_pending, backfill_table, backfill_rows, last_error
FROM sequin.source_stats ORDER BY source";
    Statement::new(
        sql,
        &[
            ("source", Kind::Text),
            ("stream", Kind::Text),
            ("status", Kind::Text),
            ("lag_bytes", Kind::Size),
            ("retained_bytes", Kind::Size),
            ("captured_total", Kind::Int),
            ("last_commit_time", Kind::Time),
            ("backfills_pending", Kind::Int),
            ("backfill_table", Kind::Text),
            ("backfill_rows", Kind::Int),
            ("last_error", Kind::Text),
        ],
    )
}

pub fn info(name: &str) -> Statement {
    let sql = format!(
        "SELECT s.name AS source, s.stream, t.status, t.last_error, s.owner, s.publication, to_json(s.table_names) AS tables,
       s.key_format, s.backfill, s.created_at, t.slot, t.lag_bytes, t.retained_bytes, t.last_commit_lsn, t.last_commit_time,
       t.captured_total, t.backfills_pending, t.backfill_table, t.backfill_rows
FROM sequin.sources s JOIN sequin.source_stats t ON t.source = s.name WHERE {}",
        where_name("s.name", name)
    );
    let columns = [
        ("source", Kind::Text),
        ("stream", Kind::Text),
        ("status", Kind::Text),
        ("last_error", Kind::Text),
        ("owner", Kind::Text),
        ("publication", Kind::Text),
        ("tables", Kind::List),
        ("key_format", Kind::Text),
        ("backfill", Kind::Bool),
        ("created_at", Kind::Time),
        ("slot", Kind::Text),
        ("lag_bytes", Kind::Size),
        ("retained_bytes", Kind::Size),
        ("last_commit_lsn", Kind::Text),
        ("last_commit_time", Kind::Time),
        ("captured_total", Kind::Int),
        ("backfills_pending", Kind::Int),
        ("backfill_table", Kind::Text),
        ("backfill_rows", Kind::Int),
    ];
    Statement::new(sql, &columns).names(Noun::Source, name)
}
