use super::*;
use proptest::prelude::*;

/// Puts a message together as proto.c does.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(kind: u8) -> Bytes {
        Bytes(vec![kind])
    }
    fn u8(mut self, value: u8) -> Bytes {
        self.0.push(value);
        self
    }
    fn u16(mut self, value: u16) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn string(mut self, value: &str) -> Bytes {
        self.0.extend(value.as_bytes());
        self.u8(0)
    }
    fn tuple(mut self, kind: u8, values: &[Value]) -> Bytes {
        self = self.u8(kind).u16(values.len() as u16);
        for value in values {
            self = match value {
                Value::Null => self.u8(b'n'),
                Value::Unchanged => self.u8(b'u'),
                Value::Text(text) => {
                    let mut text_value = self.u8(b't').u32(text.len() as u32);
                    text_value.0.extend(text.as_bytes());
                    text_value
                }
            };
        }
        self
    }
}

const ROW: [Value; 4] = [Value::Text("1"), Value::Null, Value::Unchanged, Value::Text("größe")];

fn row() -> Tuple<'static> {
    Tuple { values: ROW.to_vec() }
}

/// A message of every kind, and what it means.
fn valid() -> Vec<(Vec<u8>, Message<'static>)> {
    let relation = |schema: &str, identity: u8| {
        let bytes = Bytes::new(b'R').u32(7).string(schema).string("orders").u8(identity).u16(2);
        bytes.u8(1).string("id").u32(20).u32(u32::MAX).u8(0).string("note").u32(25).u32(u32::MAX).0
    };
    let columns = vec![
        RelationColumn { name: "id", type_oid: 20, is_key: true },
        RelationColumn { name: "note", type_oid: 25, is_key: false },
    ];
    let means = |schema: &'static str, identity: Identity| {
        let columns = columns.clone();
        Message::Relation(Relation { oid: 7, schema, name: "orders", identity, columns })
    };
    let update = |old: Option<Old<'static>>| Message::Update { relation: 7, old, new: row() };
    vec![
        (
            Bytes::new(b'B').u64(0x16b_3748).u64(-1_i64 as u64).u32(4_000_000_000).0,
            Message::Begin { commit_lsn: 0x16b_3748, commit_time: -1, xid: 4_000_000_000 },
        ),
        (
            Bytes::new(b'C').u8(0).u64(1).u64(2).u64(3).0,
            Message::Commit { commit_lsn: 1, end_lsn: 2, commit_time: 3 },
        ),
        (relation("public", b'd'), means("public", Identity::Default)),
        (relation("", b'n'), means("pg_catalog", Identity::Nothing)),
        (relation("public", b'f'), means("public", Identity::Full)),
        (relation("public", b'i'), means("public", Identity::Index)),
        (Bytes::new(b'I').u32(7).tuple(b'N', &ROW).0, Message::Insert { relation: 7, new: row() }),
        (Bytes::new(b'U').u32(7).tuple(b'N', &ROW).0, update(None)),
        (
            Bytes::new(b'U').u32(7).tuple(b'K', &ROW).tuple(b'N', &ROW).0,
            update(Some(Old::Key(row()))),
        ),
        (
            Bytes::new(b'U').u32(7).tuple(b'O', &ROW).tuple(b'N', &ROW).0,
            update(Some(Old::Full(row()))),
        ),
        (
            Bytes::new(b'D').u32(7).tuple(b'K', &ROW).0,
            Message::Delete { relation: 7, old: Old::Key(row()) },
        ),
        (
            Bytes::new(b'D').u32(7).tuple(b'O', &[]).0,
            Message::Delete { relation: 7, old: Old::Full(Tuple::default()) },
        ),
        (
            Bytes::new(b'T').u32(2).u8(3).u32(7).u32(8).0,
            Message::Truncate { relations: vec![7, 8] },
        ),
        (
            Bytes::new(b'M').u8(1).u64(9).string("sequin").u32(2).u8(b'h').u8(255).0,
            Message::Emitted { transactional: true, lsn: 9, prefix: "sequin", content: b"h\xff" },
        ),
        (Bytes::new(b'O').u64(1).string("origin").0, Message::Other),
        (Bytes::new(b'Y').u32(1).string("public").string("mood").0, Message::Other),
    ]
}

#[test]
fn every_kind_of_message_is_read() {
    for (bytes, message) in valid() {
        assert_eq!(parse(&bytes), Ok(message));
    }
}

#[test]
fn a_message_cut_short_or_too_long_is_malformed() {
    for (bytes, message) in valid() {
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{message:?} of {end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(parse(&longer).is_err(), "{message:?} and a byte");
    }
}

#[test]
fn the_error_says_where() {
    let error = parse(b"X").unwrap_err();
    let text = "malformed message of pgoutput: unknown kind of message before at byte 1";
    assert_eq!(error.to_string(), text);
    let latin1 = b"I\0\0\0\x07N\0\x01t\0\0\0\x02a\xe4";
    assert_eq!(parse(latin1), Err(Malformed { at: 13, what: "text that is not UTF-8" }));
}

#[test]
fn a_length_that_is_a_lie_allocates_nothing() {
    let lies = [
        Bytes::new(b'T').u32(u32::MAX).u8(0).u32(1),
        Bytes::new(b'I').u32(7).u8(b'N').u16(u16::MAX).u8(b'n'),
        Bytes::new(b'I').u32(7).u8(b'N').u16(1).u8(b't').u32(u32::MAX),
        Bytes::new(b'R').u32(7).string("s").string("t").u8(b'd').u16(u16::MAX).u8(0),
        Bytes::new(b'M').u8(1).u64(9).string("p").u32(u32::MAX),
    ];
    for Bytes(lie) in lies {
        assert!(parse(&lie).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_changed_byte_makes_it_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let valid = valid();
        let mut bytes = valid[which.index(valid.len())].0.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn a_row_is_read_as_it_was_written(
        texts in prop::collection::vec(prop::option::of(".{0,20}"), 0..20),
    ) {
        let value = |text: &Option<String>| text.clone().map(|text| text.leak() as &str);
        let values: Vec<Value> =
            texts.iter().map(|text| value(text).map_or(Value::Null, Value::Text)).collect();
        let bytes = Bytes::new(b'I').u32(1).tuple(b'N', &values).0;
        prop_assert_eq!(parse(&bytes), Ok(Message::Insert { relation: 1, new: Tuple { values } }));
    }
}
