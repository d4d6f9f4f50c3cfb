//! Whatever a relation, its rows and a key format are: each change is JSON, under a key that is one.
#![no_main]

use std::convert::Infallible;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sequin_capture::key_format::KeyFormat;
use sequin_capture::message::{Change, Lookup, Source, Table, Transaction};
use sequin_capture::pgoutput::{Identity, Old, Relation, RelationColumn, Tuple, Value};
use sequin_capture::types::Types;
use sequin_engine::key::check_key;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    format: &'a str,
    names: [&'a str; 4],
    columns: Vec<(&'a str, u8, bool)>,
    pk: Vec<&'a str>,
    new: Vec<Field<'a>>,
    old: Vec<Field<'a>>,
    full: bool,
    filled: Vec<(u8, u8)>,
    lsn: u64,
    time: i64,
    xid: Option<u32>,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Field<'a> {
    Null,
    Unchanged,
    Text(&'a str),
}

/// Any but jsonb, whose text is taken as it is.
const TYPES: [u32; 8] = [16, 23, 25, 114, 1114, 1184, 1007, 1009];

/// What a caller may have looked up: JSON.
const FILLED: [&str; 3] = ["null", "\"x\"", "{\"a\": [1]}"];

fuzz_target!(|input: Input| {
    let format = KeyFormat::parse(input.format);
    let format = format.unwrap_or_else(|_| KeyFormat::parse("{schema}.{table}.{pk}").unwrap());
    assert!(
        format.columns().iter().all(|column| input.format.contains(&format!("column:{column}")))
    );
    let [name, database, schema, table] = input.names;
    let source = Source { name: name.into(), database: database.into(), key_format: format };
    let columns: Vec<RelationColumn> = (input.columns.iter())
        .map(|&(name, kind, is_key)| RelationColumn {
            name,
            type_oid: TYPES[usize::from(kind) % TYPES.len()],
            is_key,
        })
        .collect();
    let identity = if input.full { Identity::Full } else { Identity::Default };
    let relation = Relation { oid: 7, schema, name: table, identity, columns };
    let table = Table::new(&source, &relation, &input.pk);
    let (new, old) = (tuple(&input.new), tuple(&input.old));
    let old = if input.full { Old::Full(old) } else { Old::Key(old) };
    let filled: Vec<(usize, String)> = (input.filled.iter())
        .map(|&(column, json)| (column.into(), FILLED[usize::from(json) % FILLED.len()].into()))
        .collect();
    let lookup = Lookup { filled: &filled };
    let transaction = Transaction::new(input.lsn, input.time, input.xid);
    for change in [
        Change::Insert { new: &new },
        Change::Update { old: None, new: &new },
        Change::Update { old: Some(&old), new: &new },
        Change::Delete { old: &old },
        Change::Truncate,
    ] {
        let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
        let message = table.message(&Types::default(), &transaction, 3, change, &lookup, &mut cast);
        let Ok(message) = message;
        assert_eq!(check_key(&message.key), Ok(()), "{}", message.key);
        let data: serde_json::Value = serde_json::from_str(&message.data).expect(&message.data);
        assert_eq!(data["metadata"]["schema"], schema);
        assert_eq!(data["metadata"]["index"].to_string(), "3");
        table.unfilled(change);
        let _ = (table.new_values(change, &table.pk), table.old_values(change, &table.pk));
    }
});

fn tuple<'a>(fields: &[Field<'a>]) -> Tuple<'a> {
    let value = |field: &Field<'a>| match *field {
        Field::Null => Value::Null,
        Field::Unchanged => Value::Unchanged,
        Field::Text(text) => Value::Text(text),
    };
    Tuple { values: fields.iter().map(value).collect() }
}
