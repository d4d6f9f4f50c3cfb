//! Messages: publishing and looking.

use crate::rows::Kind;
use crate::sql::{Call, Noun, Statement, array, literal, stream_table};

/// One message to publish; data and headers are JSON texts.
#[derive(Clone, Debug, Default)]
pub struct NewMessage<'a> {
    pub key: &'a str,
    pub data: &'a str,
    pub headers: Option<&'a str>,
    /// A timestamptz.
    pub deliver_at: Option<&'a str>,
    pub dedup_id: Option<&'a str>,
}

/// sequin.publish()
pub fn publish(stream: &str, message: &NewMessage) -> Statement {
    let call = Call::new("publish").text(stream).text(message.key).text(message.data);
    let call = call.with("headers", message.headers).with("deliver_at", message.deliver_at);
    call.with("dedup_id", message.dedup_id).scalar("seq", Kind::Int).names(Noun::Stream, stream)
}

/// sequin.publish_many() of messages that all have, or all lack, a dedup_id.
pub fn publish_many(stream: &str, messages: &[NewMessage]) -> Statement {
    let texts = |of: fn(&NewMessage) -> Option<String>| -> String {
        let elements: Vec<String> = messages
            .iter()
            .map(|message| of(message).map_or("NULL".to_owned(), |text| literal(&text)))
            .collect();
        format!("array[{}]", elements.join(", "))
    };
    let keys: Vec<&str> = messages.iter().map(|message| message.key).collect();
    let data = texts(|message| Some(message.data.to_owned()));
    let call = Call::new("publish_many").text(stream).sql(array(&keys));
    let call = call.sql(format!("{data}::jsonb[]"));
    let headers = messages.iter().any(|message| message.headers.is_some());
    let headers =
        headers.then(|| texts(|message| message.headers.map(str::to_owned)) + "::jsonb[]");
    let ids = messages.iter().any(|message| message.dedup_id.is_some());
    let ids = ids.then(|| texts(|message| message.dedup_id.map(str::to_owned)) + "::text[]");
    let call = call.with_sql("headers", headers).with_sql("dedup_ids", ids);
    let sql = format!("SELECT count(*) AS sent FROM {}", call.expression());
    Statement::new(sql, &[("sent", Kind::Int)]).names(Noun::Stream, stream)
}

/// COPY into a stream's table, in the binary format.
pub fn copy_sql(stream: &str) -> String {
    format!("COPY {} (key, data, headers) FROM STDIN (FORMAT binary)", stream_table(stream))
}

/// The columns of a message, in the order in which they are shown.
pub const COLUMNS: [(&str, Kind); 5] = [
    ("seq", Kind::Int),
    ("key", Kind::Text),
    ("inserted_at", Kind::Time),
    ("data", Kind::Json),
    ("headers", Kind::Json),
];

/// Which messages of a stream to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A key filter.
    pub filter: Option<String>,
    /// A SQL condition over seq, key, data, headers, inserted_at.
    pub condition: Option<String>,
    /// Timestamptz values, or intervals before now, as SQL.
    pub since: Option<String>,
    pub until: Option<String>,
    pub after_seq: Option<i64>,
}

impl Selection {
    fn condition(&self) -> String {
        let mut conditions = Vec::new();
        conditions.extend(self.after_seq.map(|seq| format!("m.seq > {seq}")));
        if let Some(filter) = self.filter.as_ref().filter(|filter| *filter != ">") {
            conditions.push(format!("sequin.key_matches(m.key, {})", literal(filter)));
        }
        conditions.extend(self.since.as_ref().map(|time| format!("m.inserted_at >= {time}")));
        conditions.extend(self.until.as_ref().map(|time| format!("m.inserted_at < {time}")));
        conditions.extend(self.condition.as_ref().map(|sql| format!("({sql})")));
        match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        }
    }
}

/// How many, and from which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    All,
    First(u64),
    Last(u64),
}

/// Messages of a stream, ascending by seq.
pub fn view(stream: &str, selection: &Selection, amount: Amount) -> Statement {
    let from = format!("FROM {} m{}", stream_table(stream), selection.condition());
    let columns = "m.seq, m.key, m.inserted_at, m.data, m.headers";
    let sql = match amount {
        Amount::All => format!("SELECT {columns} {from} ORDER BY m.seq"),
        Amount::First(count) => format!("SELECT {columns} {from} ORDER BY m.seq LIMIT {count}"),
        Amount::Last(count) => format!(
            "SELECT * FROM (SELECT {columns} {from} ORDER BY m.seq DESC LIMIT {count}) m ORDER BY m.seq"
        ),
    };
    Statement::new(sql, &COLUMNS).names(Noun::Stream, stream)
}

pub fn count(stream: &str, selection: &Selection) -> Statement {
    let table = stream_table(stream);
    let sql = format!("SELECT count(*) AS count FROM {table} m{}", selection.condition());
    Statement::new(sql, &[("count", Kind::Int)]).names(Noun::Stream, stream)
}

/// One message, by its seq or as the last of its key.
pub fn get(stream: &str, seq_or_key: &str) -> Statement {
    let condition = match seq_or_key.parse::<i64>() {
        Ok(seq) => format!("m.seq = {seq}"),
        Err(_) => format!("m.key = {}", literal(seq_or_key)),
    };
    let sql = format!(
        "SELECT m.seq, m.key, m.inserted_at, m.data, m.headers FROM {} m WHERE {condition} ORDER BY m.seq DESC LIMIT 1",
        stream_table(stream)
    );
    Statement::new(sql, &COLUMNS).names(Noun::Stream, stream)
}

/// Raises the server's own error where there is no such stream, or the filter is none.
pub fn check(stream: &str, filter: Option<&str>) -> Statement {
    let call = Call::new("messages").text(stream).text(filter.unwrap_or(">"));
    let call = call.with_number("max_messages", Some(0));
    Statement::new(format!("SELECT FROM {}", call.expression()), &[]).names(Noun::Stream, stream)
}

/// The last seq, if no transaction is open that has published to the stream: then nothing comes any more up to there.
pub fn settled(stream: &str) -> Statement {
    let sql = format!(
        "SELECT last_seq AS settled FROM sequin.stream_stats WHERE stream = {} AND open_publishers = 0",
        literal(stream)
    );
    Statement::new(sql, &[("settled", Kind::Int)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_is_in_the_condition() {
        let selection = Selection {
            filter: Some("eu.*".into()),
            condition: Some("data ? 'a' OR true".into()),
            after_seq: Some(5),
            ..Selection::default()
        };
        assert_eq!(
            view("s", &selection, Amount::Last(2)).sql,
            "SELECT * FROM (SELECT m.seq, m.key, m.inserted_at, m.data, m.headers FROM sequin_stream.\"s\" m \
             WHERE m.seq > 5 AND sequin.key_matches(m.key, 'eu.*') \
             AND (data ? 'a' OR true) ORDER BY m.seq DESC LIMIT 2) m ORDER BY m.seq"
        );
    }

    #[test]
    fn a_batch_is_one_call() {
        let message = |key, data| NewMessage { key, data, ..NewMessage::default() };
        let one = NewMessage { dedup_id: Some("x"), ..message("a", "{}") };
        assert_eq!(
            publish_many("s", &[one, message("b", "1")]).sql,
            "SELECT count(*) AS sent FROM sequin.publish_many('s', '{a,b}', array['{}', '1']::jsonb[], \
             dedup_ids => array['x', NULL]::text[])"
        );
    }
}
