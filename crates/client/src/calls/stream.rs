//! Streams.

use super::where_name;
use crate::rows::Kind;
use crate::sql::{Call, Noun, Statement};

/// The settings of a stream; None leaves them as they are, or as the server has them by default.
#[derive(Clone, Debug, Default)]
pub struct StreamSettings {
    pub one_message_per_key: bool,
    pub without_key_index: bool,
    /// Intervals as PostgreSQL reads them: '7 days'.
    pub retain_for: Option<String>,
    pub retain_messages: Option<i64>,
    pub retain_bytes: Option<i64>,
    pub retain_until_acked: Option<bool>,
    pub dedup_window: Option<String>,
}

impl StreamSettings {
    fn shared(&self, call: Call) -> Call {
        call.with("retain_for", self.retain_for.as_ref())
            .with_number("retain_messages", self.retain_messages)
            .with_number("retain_bytes", self.retain_bytes)
            .with_number("retain_until_acked", self.retain_until_acked)
            .with("dedup_window", self.dedup_window.as_ref())
    }
}

/// sequin.create_stream()
pub fn create(name: &str, settings: &StreamSettings) -> Statement {
    let call = Call::new("create_stream").text(name);
    let call =
        call.with_number("one_message_per_key", settings.one_message_per_key.then_some(true));
    let call = call.with_number("index_keys", settings.without_key_index.then_some(false));
    settings.shared(call).scalar("table", Kind::Text)
}

/// sequin.alter_stream()
pub fn alter(name: &str, settings: &StreamSettings, reset: &[String]) -> Statement {
    let call = settings.shared(Call::new("alter_stream").text(name));
    let reset = (!reset.is_empty()).then(|| reset.to_vec());
    call.with_array("reset", &reset).void().names(Noun::Stream, name)
}

/// sequin.drop_stream()
pub fn drop(name: &str, force: bool) -> Statement {
    let call = Call::new("drop_stream").text(name).with_number("force", force.then_some(true));
    call.void().names(Noun::Stream, name)
}

/// sequin.purge(): messages below this seq, or older than this time, which is SQL.
pub fn purge(name: &str, before_seq: Option<i64>, before_time: Option<&str>) -> Statement {
    let call = Call::new("purge").text(name).with_number("before_seq", before_seq);
    call.with_sql("before_time", before_time).scalar("purged", Kind::Int).names(Noun::Stream, name)
}

/// How many messages a purge would delete.
pub fn count_purge(name: &str, before_seq: Option<i64>, before_time: Option<&str>) -> Statement {
    let mut conditions = Vec::new();
    conditions.extend(before_seq.map(|seq| format!("seq < {seq}")));
    conditions.extend(before_time.map(|time| format!("inserted_at < {time}")));
    let table = crate::sql::stream_table(name);
    let sql =
        format!("SELECT count(*) AS would_purge FROM {table} WHERE {}", conditions.join(" AND "));
    Statement::new(sql, &[("would_purge", Kind::Int)]).names(Noun::Stream, name)
}

/// All streams, with the numbers that matter.
pub fn list() -> Statement {
    let sql = "SELECT s.stream, s.messages, s.bytes,
       (SELECT count(*) FROM sequin.consumers c WHERE c.stream = s.stream) AS consumers,
       s.first_seq, s.last_seq, s.open_publishers
FROM sequin.stream_stats s ORDER BY s.stream";
    Statement::new(
        sql,
        &[
            ("stream", Kind::Text),
            ("messages", Kind::Int),
            ("bytes", Kind::Size),
            ("consumers", Kind::Int),
            ("first_seq", Kind::Int),
            ("last_seq", Kind::Int),
            ("open_publishers", Kind::Int),
        ],
    )
}

/// All about one stream.
pub fn info(name: &str) -> Statement {
    let sql = format!(
        "SELECT s.name AS stream, s.created_at, s.one_message_per_key, s.dedup_window,
       t.messages, t.bytes, t.first_seq, t.last_seq, t.duplicates_total,
       t.open_publishers, t.oldest_publisher_pid, t.oldest_publisher_since,
       (SELECT coalesce(json_agg(c.name ORDER BY c.name), '[]') FROM sequin.consumers c WHERE c.stream = s.name) AS consumers,
       (SELECT coalesce(json_agg(f.name ORDER BY f.name), '[]') FROM sequin.sources f WHERE f.stream = s.name) AS sources
FROM sequin.streams s JOIN sequin.stream_stats t ON t.stream = s.name
WHERE {}",
        where_name("s.name", name)
    );
    let columns = [
        ("stream", Kind::Text),
        ("created_at", Kind::Time),
        ("one_message_per_key", Kind::Bool),
        ("dedup_window", Kind::Text),
        ("messages", Kind::Int),
        ("bytes", Kind::Size),
        ("first_seq", Kind::Int),
        ("last_seq", Kind::Int),
        ("duplicates_total", Kind::Int),
        ("open_publishers", Kind::Int),
        ("oldest_publisher_pid", Kind::Int),
        ("oldest_publisher_since", Kind::Time),
        ("consumers", Kind::List),
        ("sources", Kind::List),
    ];
    Statement::new(sql, &columns).names(Noun::Stream, name)
}

/// The settings of a stream that `edit` compares.
pub fn settings(name: &str) -> Statement {
    // By way of jsonb, so that settings that an older or newer server has or hasn't are no error.
    let sql = format!(
        "SELECT to_jsonb(s) - '{{name,created_at,repairs,owner}}'::text[] AS settings FROM sequin.streams s WHERE {}",
        where_name("s.name", name)
    );
    Statement::new(sql, &[("settings", Kind::Json)]).names(Noun::Stream, name)
}
