//! JSON lines of messages: what `message view -o jsonl` and `consumer receive -o jsonl` print, and `message send --from`
//! takes. Data and headers stay the texts they are.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use sequin_client::calls::message::{self, NewMessage};
use sequin_client::sql::Statement;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A line. What the server gives anew (seq, inserted_at, ..) is read over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dedup_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    deliver_at: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "seq")]
    _seq: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "inserted_at")]
    _inserted_at: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ack_id")]
    _ack_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "deliver_count")]
    _deliver_count: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "reason")]
    _reason: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "dead_at")]
    _dead_at: Option<&'a RawValue>,
}

struct Message {
    key: String,
    data: String,
    headers: Option<String>,
    dedup_id: Option<String>,
    deliver_at: Option<String>,
}

impl Message {
    fn as_new(&self) -> NewMessage<'_> {
        NewMessage {
            key: &self.key,
            data: &self.data,
            headers: self.headers.as_deref(),
            deliver_at: self.deliver_at.as_deref(),
            dedup_id: self.dedup_id.as_deref(),
        }
    }
}

/// Messages that are sent together, in one transaction.
pub struct Batch {
    content: Content,
    /// The line of the file that is the first in here, and how many messages there are.
    pub first_line: u64,
    pub count: u64,
    /// The last line that is in here, blank lines included; and its end in the file.
    pub last_line: u64,
    pub bytes_read: u64,
    /// The line of each message, where blank ones are between them.
    line_numbers: Vec<u64>,
}

enum Content {
    /// Rows for COPY in the binary format.
    Rows(BytesMut),
    /// What needs a call: dedup_ids, times.
    Calls(Vec<Message>),
}

/// The signature, no flags, no extension: how COPY's binary format begins.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The number of columns that says that it ends.
const COPY_END: i16 = -1;
/// The version of jsonb's binary format, which is a text after that.
const JSONB_VERSION: u8 = 1;
/// A batch is full at one of these: a COPY of it takes some milliseconds, and memory stays flat.
const BATCH_ROWS: u64 = 10_000;
const BATCH_BYTES: usize = 4 << 20;
const BATCH_CALLS: u64 = 1000;

impl Batch {
    pub fn new(first_line: u64) -> Self {
        let mut rows = BytesMut::with_capacity(BATCH_BYTES / 4);
        rows.put_slice(COPY_HEADER);
        Self {
            content: Content::Rows(rows),
            first_line,
            count: 0,
            last_line: first_line - 1,
            bytes_read: 0,
            line_numbers: Vec::new(),
        }
    }

    /// Adds a line. Gives it back as false if it doesn't fit to what is in here: then this batch has to go first.
    pub fn add(&mut self, line: &[u8], number: u64) -> Result<bool, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let text = text.trim();
        if text.is_empty() {
            self.last_line = number;
            return Ok(true);
        }
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let needs_call = line.dedup_id.is_some() || line.deliver_at.is_some();
        match &mut self.content {
            Content::Rows(rows) if !needs_call => put_row(rows, &line),
            Content::Calls(messages) if needs_call => messages.push(owned(&line)),
            _ if self.count > 0 => return Ok(false),
            _ => self.content = Content::Calls(vec![owned(&line)]),
        }
        self.count += 1;
        self.last_line = number;
        self.line_numbers.push(number);
        Ok(true)
    }

    pub fn is_full(&self) -> bool {
        match &self.content {
            Content::Rows(rows) => self.count >= BATCH_ROWS || rows.len() >= BATCH_BYTES,
            Content::Calls(_) => self.count >= BATCH_CALLS,
        }
    }

    /// The line of the file that a message of this batch came from; the first is 1.
    pub fn line_of(&self, message: u64) -> Option<u64> {
        self.line_numbers.get(message.checked_sub(1)? as usize).copied()
    }

    pub fn into_work(self, stream: &str) -> Work {
        match self.content {
            Content::Rows(mut rows) => {
                rows.put_i16(COPY_END);
                Work::Copy(message::copy_sql(stream), rows.freeze())
            }
            Content::Calls(messages) => Work::Statements(statements(stream, &messages)),
        }
    }
}

/// What sends a batch.
pub enum Work {
    Copy(String, Bytes),
    Statements(Vec<Statement>),
}

fn put_row(rows: &mut BytesMut, line: &Line) {
    rows.put_i16(3);
    rows.put_i32(line.key.len() as i32);
    rows.put_slice(line.key.as_bytes());
    put_jsonb(rows, Some(line.data));
    put_jsonb(rows, line.headers);
}

fn put_jsonb(rows: &mut BytesMut, value: Option<&RawValue>) {
    match value {
        None => rows.put_i32(-1),
        Some(value) => {
            rows.put_i32(1 + value.get().len() as i32);
            rows.put_u8(JSONB_VERSION);
            rows.put_slice(value.get().as_bytes());
        }
    }
}

fn owned(line: &Line) -> Message {
    Message {
        key: line.key.to_string(),
        data: line.data.get().to_owned(),
        headers: line.headers.map(|headers| headers.get().to_owned()),
        dedup_id: line.dedup_id.as_ref().map(|id| id.to_string()),
        deliver_at: line.deliver_at.as_ref().map(|time| time.to_string()),
    }
}

/// One call for all that go now, one for each that goes later.
fn statements(stream: &str, messages: &[Message]) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut now: Vec<NewMessage> = Vec::new();
    for message in messages.iter().map(Message::as_new) {
        if message.deliver_at.is_some() {
            statements.push(message::publish(stream, &message));
        } else {
            now.push(message);
        }
    }
    if !now.is_empty() {
        statements.push(message::publish_many(stream, &now));
    }
    statements
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_line_becomes_a_row_of_copy() {
        let mut batch = Batch::new(1);
        let line = br#"{"seq": 7, "key": "a.\u00e9", "data": {"n": 1.00}, "headers": null}"#;
        assert!(batch.add(line, 1).unwrap());
        assert!(batch.add(b"  ", 2).unwrap());
        assert!(batch.add(br#"{"key":"b","data":2}"#, 3).unwrap());
        assert_eq!((batch.count, batch.last_line, batch.line_of(2)), (2, 3, Some(3)));
        let Work::Copy(sql, bytes) = batch.into_work("s") else { panic!("no COPY") };
        assert!(sql.starts_with("COPY sequin_stream.\"s\" (key, data, headers)"));
        let mut expected = COPY_HEADER.to_vec();
        expected.extend(b"\0\x03\0\0\0\x04a.\xc3\xa9\0\0\0\x0c\x01{\"n\": 1.00}\xff\xff\xff\xff");
        expected.extend(b"\0\x03\0\0\0\x01b\0\0\0\x02\x012\xff\xff\xff\xff\xff\xff");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_header_of_null_is_none() {
        let mut batch = Batch::new(1);
        batch.add(br#"{"key":"b","data":null,"headers":{"a":1}}"#, 1).unwrap();
        assert_eq!(batch.count, 1);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        let mut batch = Batch::new(1);
        for (line, what) in [
            (&b"{\"key\":\"a\"}"[..], "missing field `data`"),
            (b"{\"key\":\"a\",\"data\":1,\"dat\":2}", "unknown field `dat`"),
            (b"{\"key\":\"a\",\"data\":1} x", "trailing characters"),
            (b"\xff", "UTF-8"),
        ] {
            assert!(batch.add(line, 1).unwrap_err().contains(what));
        }
        assert_eq!(batch.count, 0);
    }

    #[test]
    fn what_needs_a_call_is_not_mixed_with_rows() {
        let mut batch = Batch::new(1);
        assert!(batch.add(br#"{"key":"a","data":1}"#, 1).unwrap());
        let with_id = br#"{"key":"a","data":1,"dedup_id":"x"}"#;
        assert!(!batch.add(with_id, 2).unwrap());
        let mut next = Batch::new(2);
        assert!(next.add(with_id, 2).unwrap());
        let Work::Statements(statements) = next.into_work("s") else { panic!("no calls") };
        assert!(statements[0].sql.contains("publish_many"));
    }
}
