//! Whatever bytes come as a message of pgoutput: it is refused, or it means just these bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sequin_capture::pgoutput::{Message, Old, Tuple, Value, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = parse(bytes) else { return };
    // What it borrows and what it allocates is no more than what came in.
    assert!(size(&message) <= bytes.len(), "{message:?}");
    // Cut short or with more behind, it is another message or none.
    assert_ne!(parse(&bytes[..bytes.len() - 1]).as_ref(), Ok(&message));
    let longer = [bytes, &[0]].concat();
    assert_ne!(parse(&longer).as_ref(), Ok(&message));
});

/// The least bytes that can say this.
fn size(message: &Message) -> usize {
    match message {
        Message::Begin { .. } => 21,
        Message::Commit { .. } => 26,
        Message::Relation(relation) => {
            let columns = relation.columns.iter().map(|column| column.name.len() + 10);
            let schema = if relation.schema == "pg_catalog" { 0 } else { relation.schema.len() };
            10 + schema + relation.name.len() + columns.sum::<usize>()
        }
        Message::Insert { new, .. } => 5 + row(new),
        Message::Update { old, new, .. } => 5 + old.as_ref().map_or(0, before) + row(new),
        Message::Delete { old, .. } => 5 + before(old),
        Message::Truncate { relations } => 6 + 4 * relations.capacity(),
        Message::Emitted { prefix, content, .. } => 15 + prefix.len() + content.len(),
        Message::Other => 6,
    }
}

fn before(old: &Old) -> usize {
    match old {
        Old::Key(old) | Old::Full(old) => row(old),
    }
}

fn row(row: &Tuple) -> usize {
    let value = |value: &Value| match value {
        Value::Null | Value::Unchanged => 1,
        Value::Text(text) => 5 + text.len(),
    };
    3 + row.values.iter().map(value).sum::<usize>()
}
