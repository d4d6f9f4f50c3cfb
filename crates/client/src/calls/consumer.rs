//! Consumers.

use super::where_name;
use crate::rows::Kind;
use crate::sql::{Call, Noun, Statement, literal, stream_table};

/// The settings of a consumer; None leaves them as they are, or as the server has them by default.
#[derive(Clone, Debug, Default)]
pub struct ConsumerSettings {
    pub filters: Option<Vec<String>>,
    pub ack_wait: Option<String>,
    pub max_ack_pending: Option<i32>,
    pub max_deliver: Option<i32>,
    pub backoff: Option<Vec<String>>,
    pub ordered: Option<bool>,
    pub condition: Option<String>,
    pub transform: Option<String>,
}

impl ConsumerSettings {
    fn shared(&self, call: Call) -> Call {
        call.with_array("filters", &self.filters)
            .with("ack_wait", self.ack_wait.as_ref())
            .with_number("max_ack_pending", self.max_ack_pending)
            .with_number("max_deliver", self.max_deliver)
            .with_array("backoff", &self.backoff)
            .with_number("ordered", self.ordered)
            .with("condition", self.condition.as_ref())
            .with("transform", self.transform.as_ref())
    }
}

/// Where a new consumer begins.
#[derive(Clone, Debug, Default)]
pub enum Start {
    #[default]
    Beginning,
    Seq(i64),
    /// A timestamptz, or an interval before now, as SQL.
    Time(String),
    NewOnly,
}

/// sequin.create_consumer()
pub fn create(stream: &str, name: &str, settings: &ConsumerSettings, start: &Start) -> Statement {
    let call = settings.shared(Call::new("create_consumer").text(stream).text(name));
    let call = match start {
        Start::Beginning => call,
        Start::Seq(seq) => call.with_number("start_seq", Some(seq)),
        Start::Time(sql) => call.with_sql("start_time", Some(sql)),
        Start::NewOnly => call.with_number("new_only", Some(true)),
    };
    call.void().names(Noun::Stream, stream)
}

/// sequin.alter_consumer()
pub fn alter(
    name: &str,
    settings: &ConsumerSettings,
    owner: Option<&str>,
    reset: &[String],
) -> Statement {
    let call = settings.shared(Call::new("alter_consumer").text(name));
    let reset = (!reset.is_empty()).then(|| reset.to_vec());
    let call = call.with("owner", owner).with_array("reset", &reset);
    call.void().names(Noun::Consumer, name)
}

/// sequin.drop_consumer(), pause_consumer(), resume_consumer()
pub fn drop(name: &str) -> Statement {
    Call::new("drop_consumer").text(name).void().names(Noun::Consumer, name)
}

pub fn pause(name: &str) -> Statement {
    Call::new("pause_consumer").text(name).void().names(Noun::Consumer, name)
}

pub fn resume(name: &str) -> Statement {
    Call::new("resume_consumer").text(name).void().names(Noun::Consumer, name)
}

/// sequin.receive(): `wait` and `ack_wait` are intervals.
pub fn receive(
    name: &str,
    batch_size: u32,
    wait: Option<&str>,
    ack_wait: Option<&str>,
) -> Statement {
    let call = Call::new("receive").text(name).sql(batch_size.to_string());
    let call = call.with("wait", wait).with("ack_wait", ack_wait);
    let sql = format!(
        "SELECT ack_id, seq, key, deliver_count, inserted_at, data, headers FROM {}",
        call.expression()
    );
    let columns = [
        ("ack_id", Kind::Id),
        ("seq", Kind::Int),
        ("key", Kind::Text),
        ("deliver_count", Kind::Int),
        ("inserted_at", Kind::Time),
        ("data", Kind::Json),
        ("headers", Kind::Json),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

fn ids(ack_ids: &[i64]) -> String {
    let texts: Vec<String> = ack_ids.iter().map(i64::to_string).collect();
    format!("'{{{}}}'", texts.join(","))
}

fn about_ids(function: &'static str, name: &str, ack_ids: &[i64]) -> Call {
    Call::new(function).text(name).sql(ids(ack_ids))
}

pub fn ack(name: &str, ack_ids: &[i64]) -> Statement {
    about_ids("ack", name, ack_ids).scalar("acked", Kind::Int).names(Noun::Consumer, name)
}

pub fn nack(name: &str, ack_ids: &[i64], delay: Option<&str>) -> Statement {
    let call = about_ids("nack", name, ack_ids).with("delay", delay);
    call.scalar("nacked", Kind::Int).names(Noun::Consumer, name)
}

pub fn extend(name: &str, ack_ids: &[i64], ack_wait: Option<&str>) -> Statement {
    let call = about_ids("extend", name, ack_ids).with("ack_wait", ack_wait);
    call.scalar("extended", Kind::Int).names(Noun::Consumer, name)
}

pub fn reject(name: &str, ack_ids: &[i64], reason: Option<&str>) -> Statement {
    let call = about_ids("reject", name, ack_ids).with("reason", reason);
    call.scalar("rejected", Kind::Int).names(Noun::Consumer, name)
}

/// sequin.redrive(): these dead letters, or all.
pub fn redrive(name: &str, seqs: Option<&[i64]>) -> Statement {
    let call = Call::new("redrive").text(name).with_sql("seqs", seqs.map(ids));
    call.scalar("redriven", Kind::Int).names(Noun::Consumer, name)
}

/// sequin.redeliver(): these seqs ..
pub fn redeliver(name: &str, seqs: &[i64]) -> Statement {
    let call = Call::new("redeliver").text(name).sql(ids(seqs));
    call.scalar("redelivered", Kind::Int).names(Noun::Consumer, name)
}

/// .. or those of messages that a condition selects.
pub fn redeliver_where(name: &str, stream: &str, condition: &str) -> Statement {
    let seqs = format!("array(SELECT seq FROM {} WHERE {condition})", stream_table(stream));
    let call = Call::new("redeliver").text(name).sql(seqs);
    call.scalar("redelivered", Kind::Int).names(Noun::Consumer, name)
}

/// Where to rewind a consumer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Beginning,
    Seq(i64),
    /// A timestamptz, or an interval before now, as SQL.
    Time(String),
    /// So many messages back from what is finished, of those that its filters let through.
    Back(u32),
    /// Where another consumer of the same stream is.
    Like(String),
}

/// sequin.rewind(). No row comes back where the target is nowhere: `Back` and `Like` are subqueries.
pub fn rewind(name: &str, target: &Target, stream: &str) -> Statement {
    let call = Call::new("rewind").text(name);
    let call = match target {
        Target::Beginning => call,
        Target::Seq(seq) => call.with_number("to_seq", Some(seq)),
        Target::Time(sql) => call.with_sql("to_time", Some(sql)),
        Target::Back(_) | Target::Like(_) => call.with_sql("to_seq", Some("t.to_seq")),
    };
    let mut sql = format!("SELECT {}", call.expression());
    if let Some(place) = place(name, target, stream) {
        sql = format!("{sql} FROM ({place}) t WHERE t.to_seq IS NOT NULL");
    }
    let statement = Statement::new(sql, &[("", Kind::Void)]).names(Noun::Consumer, name);
    match target {
        Target::Like(other) => statement.names(Noun::Consumer, other),
        _ => statement,
    }
}

/// A query of the seq that a target means; None where it needs none.
fn place(name: &str, target: &Target, stream: &str) -> Option<String> {
    match target {
        Target::Back(count) => Some(format!(
            "SELECT min(seq) AS to_seq FROM (SELECT m.seq FROM {} m, sequin.consumers c JOIN sequin.consumer_stats s ON s.consumer = c.name \
             WHERE {} AND m.seq <= s.ack_floor AND {MATCHES} ORDER BY m.seq DESC LIMIT {count}) b",
            stream_table(stream),
            where_name("c.name", name),
        )),
        Target::Like(other) => Some(format!(
            "SELECT o.ack_floor + 1 AS to_seq FROM sequin.consumer_stats o WHERE {} AND {}",
            where_name("o.consumer", other),
            where_name("o.stream", stream),
        )),
        _ => None,
    }
}

const MATCHES: &str = "EXISTS (SELECT FROM unnest(c.filters) f WHERE sequin.key_matches(m.key, f))";

/// What a rewind would do: to which seq, and how many messages come again, or come at all.
pub fn preview_rewind(name: &str, target: &Target, stream: &str) -> Statement {
    let table = stream_table(stream);
    let place = match target {
        Target::Beginning => "SELECT 1::bigint AS to_seq".to_owned(),
        Target::Seq(seq) => format!("SELECT {seq}::bigint AS to_seq"),
        Target::Time(sql) => {
            format!(
                "SELECT coalesce(min(seq), (SELECT last_seq + 1 FROM sequin.stream_stats WHERE {})) AS to_seq FROM {table} WHERE inserted_at >= {sql}",
                where_name("stream", stream)
            )
        }
        Target::Back(_) | Target::Like(_) => place(name, target, stream).unwrap_or_default(),
    };
    let sql = format!(
        "SELECT t.to_seq, count(m.seq) FILTER (WHERE m.seq <= s.ack_floor) AS come_again, count(m.seq) AS come_in_all, s.in_flight AS void_deliveries
FROM ({place}) t
JOIN sequin.consumers c ON {}
JOIN sequin.consumer_stats s ON s.consumer = c.name
LEFT JOIN {table} m ON m.seq >= t.to_seq AND {MATCHES}
WHERE t.to_seq IS NOT NULL
GROUP BY t.to_seq, s.in_flight",
        where_name("c.name", name)
    );
    let columns = [
        ("to_seq", Kind::Int),
        ("come_again", Kind::Int),
        ("come_in_all", Kind::Int),
        ("void_deliveries", Kind::Int),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

/// The stream of a consumer.
pub fn stream_of(name: &str) -> Statement {
    let sql = format!("SELECT stream FROM sequin.consumers WHERE {}", where_name("name", name));
    Statement::new(sql, &[("stream", Kind::Text)]).names(Noun::Consumer, name)
}

/// All consumers, or those of a stream, with the numbers that matter.
pub fn list(stream: Option<&str>) -> Statement {
    let condition =
        stream.map_or(String::new(), |name| format!(" WHERE {}", where_name("stream", name)));
    let sql = format!(
        "SELECT consumer, stream, status, ready, in_flight, delayed, withheld, lag, ack_floor, dead_total, waiting
FROM sequin.consumer_stats{condition} ORDER BY consumer"
    );
    Statement::new(
        sql,
        &[
            ("consumer", Kind::Text),
            ("stream", Kind::Text),
            ("status", Kind::Text),
            ("ready", Kind::Int),
            ("in_flight", Kind::Int),
            ("delayed", Kind::Int),
            ("withheld", Kind::Int),
            ("lag", Kind::Int),
            ("ack_floor", Kind::Int),
            ("dead_total", Kind::Int),
            ("waiting", Kind::Int),
        ],
    )
}

/// All about one consumer.
pub fn info(name: &str) -> Statement {
    let sql = format!(
        "SELECT c.name AS consumer, c.stream, s.status, s.last_error, c.owner, to_json(c.filters) AS filters, c.ack_wait,
       c.max_ack_pending, c.max_deliver, to_json(c.backoff) AS backoff, c.ordered, c.created_at,
       s.ready, s.in_flight, s.delayed, s.withheld, s.lag, s.ack_floor, s.oldest_unacked_at,
       s.acked_total, s.redelivered_total, s.dead_total, s.waiting
FROM sequin.consumers c JOIN sequin.consumer_stats s ON s.consumer = c.name WHERE {}",
        where_name("c.name", name)
    );
    let columns = [
        ("consumer", Kind::Text),
        ("stream", Kind::Text),
        ("status", Kind::Text),
        ("last_error", Kind::Text),
        ("owner", Kind::Text),
        ("filters", Kind::List),
        ("ack_wait", Kind::Text),
        ("max_ack_pending", Kind::Int),
        ("max_deliver", Kind::Int),
        ("backoff", Kind::List),
        ("ordered", Kind::Bool),
        ("created_at", Kind::Time),
        ("ready", Kind::Int),
        ("in_flight", Kind::Int),
        ("delayed", Kind::Int),
        ("withheld", Kind::Int),
        ("lag", Kind::Int),
        ("ack_floor", Kind::Int),
        ("oldest_unacked_at", Kind::Time),
        ("acked_total", Kind::Int),
        ("redelivered_total", Kind::Int),
        ("dead_total", Kind::Int),
        ("waiting", Kind::Int),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

/// The settings of a consumer that `edit` compares.
pub fn settings(name: &str) -> Statement {
    let sql = format!(
        "SELECT to_jsonb(c) - '{{name,stream,created_at,id,generation,start_after,start_done,start_last,paused}}'::text[] AS settings
FROM sequin.consumers c WHERE {}",
        where_name("c.name", name)
    );
    Statement::new(sql, &[("settings", Kind::Json)]).names(Noun::Consumer, name)
}

/// What is in flight.
pub fn in_flight(name: &str) -> Statement {
    let call = Call::new("in_flight").text(name);
    let sql = format!(
        "SELECT ack_id, seq, key, deliver_count, deadline, pid FROM {} ORDER BY seq",
        call.expression()
    );
    let columns = [
        ("ack_id", Kind::Id),
        ("seq", Kind::Int),
        ("key", Kind::Text),
        ("deliver_count", Kind::Int),
        ("deadline", Kind::Time),
        ("pid", Kind::Int),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

/// What a consumer has before it: what is in flight, and what is above its ack floor and matches. Leases nothing.
pub fn peek(
    name: &str,
    stream: &str,
    is_pending_only: bool,
    is_last: bool,
    count: u64,
) -> Statement {
    let table = stream_table(stream);
    let (join, order) = match (is_pending_only, is_last) {
        (true, true) => ("JOIN", "DESC"),
        (true, false) => ("JOIN", "ASC"),
        (false, true) => ("LEFT JOIN", "DESC"),
        (false, false) => ("LEFT JOIN", "ASC"),
    };
    let sql = format!(
        "SELECT * FROM (
    SELECT m.seq, m.key, CASE WHEN i.seq IS NULL THEN 'available' ELSE 'pending' END AS state, i.deliver_count,
           i.ack_id, i.deadline AS not_visible_until, m.data
    FROM sequin.consumers c
    JOIN sequin.consumer_stats s ON s.consumer = c.name
    JOIN {table} m ON m.seq > coalesce(s.ack_floor, c.start_after) AND {MATCHES}
    {join} sequin.in_flight({}) i ON i.seq = m.seq
    WHERE {}
    ORDER BY m.seq {order} LIMIT {count}) p ORDER BY seq",
        literal(name),
        where_name("c.name", name)
    );
    let columns = [
        ("seq", Kind::Int),
        ("key", Kind::Text),
        ("state", Kind::Text),
        ("deliver_count", Kind::Int),
        ("ack_id", Kind::Id),
        ("not_visible_until", Kind::Time),
        ("data", Kind::Json),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

/// The dead letters of a consumer.
pub fn dead(name: &str, count: Option<u64>) -> Statement {
    let limit = count.map_or(String::new(), |count| format!(" LIMIT {count}"));
    let sql = format!(
        "SELECT seq, key, deliver_count, reason, dead_at, data, headers FROM sequin.dead_letters WHERE {} ORDER BY seq{limit}",
        where_name("consumer", name)
    );
    let columns = [
        ("seq", Kind::Int),
        ("key", Kind::Text),
        ("deliver_count", Kind::Int),
        ("reason", Kind::Text),
        ("dead_at", Kind::Time),
        ("data", Kind::Json),
        ("headers", Kind::Json),
    ];
    Statement::new(sql, &columns).names(Noun::Consumer, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewind_whose_target_is_nowhere_has_no_row() {
        let like = rewind("a", &Target::Like("b".into()), "s");
        assert!(like.sql.ends_with("WHERE t.to_seq IS NOT NULL"), "{}", like.sql);
        assert_eq!(rewind("a", &Target::Beginning, "s").sql, "SELECT sequin.rewind('a')");
        assert_eq!(rewind("a", &Target::Seq(7), "s").sql, "SELECT sequin.rewind('a', to_seq => 7)");
    }

    #[test]
    fn settings_that_are_not_given_are_not_in_the_call() {
        let settings = ConsumerSettings {
            filters: Some(vec!["a.>".into()]),
            max_deliver: Some(5),
            ..ConsumerSettings::default()
        };
        assert_eq!(
            create("s", "c", &settings, &Start::NewOnly).sql,
            "SELECT sequin.create_consumer('s', 'c', filters => '{a.>}', max_deliver => 5, new_only => true)"
        );
    }
}
