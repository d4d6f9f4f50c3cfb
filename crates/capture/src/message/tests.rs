use super::super::json_text;
use super::super::pgoutput::RelationColumn;
use super::*;
use crate::pgoutput::Identity;
use proptest::prelude::*;
use std::convert::Infallible;

const COLUMNS: [(&str, u32, bool); 4] =
    [("id", 20, true), ("name", 25, false), ("big", 3802, false), ("at", 1184, false)];

fn source(key_format: &str) -> Source {
    Source {
        name: "orders_source".into(),
        database: "shop".into(),
        key_format: KeyFormat::parse(key_format).unwrap(),
    }
}

fn table(key_format: &str, identity: Identity) -> Table {
    let column = |(name, type_oid, is_key)| RelationColumn {
        name,
        type_oid,
        is_key: is_key || identity == Identity::Full,
    };
    let columns = COLUMNS.into_iter().map(column).collect();
    let relation = Relation { oid: 7, schema: "public", name: "or\"ders", identity, columns };
    Table::new(&source(key_format), &relation, &["id"])
}

fn tuple<'a>(values: &[Option<&'a str>]) -> Tuple<'a> {
    let value = |value: &Option<&'a str>| match value {
        None => Value::Null,
        Some("...") => Value::Unchanged,
        Some(text) => Value::Text(text),
    };
    Tuple { values: values.iter().map(value).collect() }
}

fn message_with(table: &Table, change: Change, lookup: Lookup) -> Message {
    let transaction = Transaction::new(0x16b_3748, 848_491_200_123_456, Some(742));
    let mut cast = |_: u32, _: &str| -> Result<String, Infallible> { Ok(String::new()) };
    let made = table.message(&Types::default(), &transaction, 3, change, &lookup, &mut cast);
    let Ok(message) = made;
    message
}

fn message(table: &Table, change: Change) -> Message {
    message_with(table, change, Lookup::default())
}

/// The members before `metadata`.
fn body(message: &Message) -> &str {
    message.data.split_once(",\"metadata\":").unwrap().0
}

/// The members of `metadata` after `commit_time`, which are few.
fn rest(message: &Message) -> &str {
    message.data.split_once("00.123456+00:00\"").unwrap().1
}

#[test]
fn an_insert_has_its_row_and_where_it_comes_from() {
    let table = table("{schema}.{table}.{pk}", Identity::Default);
    let new = tuple(&[Some("1"), None, Some("{\"a\": 1}"), Some("2026-11-20 12:00:00+00")]);
    let message = message(&table, Change::Insert { new: &new });
    assert_eq!(message.key, "public.or\"ders.1");
    assert_eq!(
        message.data,
        concat!(
            r#"{"action":"insert","record":{"at":"2026-11-20T12:00:00+00:00","id":1,"big":{"a": 1},"name":null},"#,
            r#""changes":null,"metadata":{"xid":742,"index":3,"table":"or\"ders","schema":"public","#,
            r#""source":"orders_source","database":"shop","#,
            r#""commit_lsn":"0/16B3748","commit_time":"2026-11-20T12:00:00.123456+00:00"}}"#
        )
    );
}

#[test]
fn the_changes_of_an_update_are_what_is_known_of_its_old_row() {
    let old = tuple(&[Some("1"), Some("a"), Some("{}"), None]);
    let new = tuple(&[Some("2"), Some("a"), Some("..."), Some("infinity")]);
    let record = r#"{"at":"infinity","id":2,"big":{},"name":"a"}"#;

    let full = Old::Full(old.clone());
    let message =
        message(&table("{pk}", Identity::Full), Change::Update { old: Some(&full), new: &new });
    let expected =
        format!(r#"{{"action":"update","record":{record},"changes":{{"at":null,"id":1}}"#);
    assert_eq!((body(&message), message.key.as_str(), rest(&message)), (&*expected, "2", "}}"));

    // With the key only, only the key's columns are known.
    let key = Old::Key(tuple(&[Some("1"), None, None, None]));
    let message = super::tests::message(
        &table("{pk}", Identity::Default),
        Change::Update { old: Some(&key), new: &new },
    );
    assert_eq!(
        body(&message),
        r#"{"action":"update","record":{"at":"infinity","id":2,"name":"a"},"changes":{"id":1}"#
    );
    assert_eq!(rest(&message), r#","unchanged":["big"]}}"#);

    let message = super::tests::message(
        &table("{pk}", Identity::Default),
        Change::Update { old: None, new: &new },
    );
    assert!(body(&message).ends_with(r#""changes":null"#));
}

#[test]
fn an_update_that_changes_nothing_has_empty_changes_if_that_is_known() {
    let row = tuple(&[Some("1"), Some("a"), Some("{}"), None]);
    let (full, key) = (Old::Full(row.clone()), Old::Key(row.clone()));
    let changes = |identity, old| {
        let message =
            message(&table("{pk}", identity), Change::Update { old: Some(old), new: &row });
        body(&message).rsplit_once(r#""changes":"#).unwrap().1.to_owned()
    };
    assert_eq!(changes(Identity::Full, &full), "{}");
    assert_eq!(changes(Identity::Default, &key), "null");
}

#[test]
fn a_delete_has_its_old_row_as_far_as_it_is_known() {
    let key = Old::Key(tuple(&[Some("1"), None, None, None]));
    let message = message(&table("{pk}", Identity::Default), Change::Delete { old: &key });
    assert_eq!(body(&message), r#"{"action":"delete","record":{"id":1},"changes":null"#);
    assert_eq!((message.key.as_str(), rest(&message)), ("1", "}}"));

    let full = Old::Full(tuple(&[Some("1"), None, Some("..."), Some("infinity")]));
    let message =
        super::tests::message(&table("{pk}", Identity::Full), Change::Delete { old: &full });
    assert_eq!(
        body(&message),
        r#"{"action":"delete","record":{"at":"infinity","id":1,"name":null},"changes":null"#
    );
    assert_eq!(rest(&message), r#","unchanged":["big"]}}"#);
}

#[test]
fn a_truncate_has_no_row() {
    let table = table("{table}.{pk}.{column:name}", Identity::Default);
    let message = message(&table, Change::Truncate);
    assert_eq!(body(&message), r#"{"action":"truncate","record":null,"changes":null"#);
    assert_eq!(message.key, "or\"ders.%null.%null");
}

#[test]
fn what_was_looked_up_is_in_the_record() {
    let table = table("{column:big}.{column:name}", Identity::Default);
    let new = tuple(&[Some("1"), Some("a"), Some("..."), None]);
    let filled = [(2, r#""a\tb""#.to_owned())];
    let lookup = Lookup { filled: &filled };
    let message = message_with(&table, Change::Update { old: None, new: &new }, lookup);
    let record = r#"{"at":null,"id":1,"big":"a\tb","name":"a"}"#;
    assert_eq!(body(&message), format!(r#"{{"action":"update","record":{record},"changes":null"#));
    assert_eq!((message.key.as_str(), rest(&message)), ("a%09b.a", "}}"));
}

#[test]
fn what_only_the_caller_can_fill_in_is_named() {
    let new = tuple(&[Some("..."), Some("..."), Some("..."), None]);
    let table_of = |identity| table("{pk}", identity);
    let update = Change::Update { old: None, new: &new };
    assert_eq!(table_of(Identity::Default).unfilled(update), [0, 1, 2]);
    // A key that is TOASTed is in the old row, and has not changed.
    let key = Old::Key(tuple(&[Some("1"), None, None, None]));
    let update = Change::Update { old: Some(&key), new: &new };
    assert_eq!(table_of(Identity::Default).unfilled(update), [1, 2]);
    assert_eq!(message(&table_of(Identity::Default), update).key, "1");
    let full = Old::Full(tuple(&[Some("1"), Some("a"), None, None]));
    let update = Change::Update { old: Some(&full), new: &new };
    assert!(table_of(Identity::Full).unfilled(update).is_empty());
    assert!(table_of(Identity::Full).unfilled(Change::Delete { old: &full }).is_empty());
    assert!(table_of(Identity::Full).unfilled(Change::Truncate).is_empty());
}

#[test]
fn the_values_of_a_key_are_known_of_the_rows_that_have_them() {
    let table = table("{pk}", Identity::Default);
    let key = Old::Key(tuple(&[Some("1"), None, None, None]));
    let new = tuple(&[Some("2"), Some("a"), None, None]);
    let update = Change::Update { old: Some(&key), new: &new };
    assert_eq!(table.new_values(update, &[0, 1]), Some(vec!["2", "a"]));
    assert_eq!(table.new_values(update, &[0, 2]), None);
    assert_eq!(table.old_values(update, &table.pk), Some(vec!["1"]));
    assert_eq!(table.old_values(update, &[0, 1]), None);
    let delete = Change::Delete { old: &key };
    assert_eq!(table.old_values(delete, &[0]), Some(vec!["1"]));
    assert_eq!(table.new_values(delete, &[0]), None);
    let insert = Change::Insert { new: &new };
    assert_eq!(
        (table.old_values(insert, &[0]), table.new_values(insert, &[0])),
        (None, Some(vec!["2"]))
    );
    assert_eq!(table.old_values(Change::Update { old: None, new: &new }, &[0]), None);
    assert_eq!(table.positions(&["at", "id"]), Some(vec![3, 0]));
    assert_eq!(table.positions(&["id", "gone"]), None);
}

#[test]
fn a_key_that_is_not_all_known_is_not_used() {
    let columns = vec![
        RelationColumn { name: "a", type_oid: 25, is_key: true },
        RelationColumn { name: "b", type_oid: 25, is_key: false },
    ];
    let relation = Relation { oid: 7, schema: "s", name: "t", identity: Identity::Index, columns };
    let table = |pk: &[&str]| Table::new(&source("{pk}"), &relation, pk);
    let old = Old::Key(tuple(&[Some("x"), None]));
    let new = tuple(&[Some("x"), Some("y")]);
    let key = |pk: &[&str], change| message(&table(pk), change).key;
    assert_eq!(key(&["b", "a"], Change::Delete { old: &old }), "%null");
    assert_eq!(key(&["b", "a"], Change::Insert { new: &new }), "y,x");
    assert_eq!(key(&["a"], Change::Delete { old: &old }), "x");
    assert_eq!(key(&["a", "not published"], Change::Insert { new: &new }), "%null");
    assert_eq!(key(&[], Change::Insert { new: &new }), "%null");
}

#[test]
fn a_row_of_a_chunk_is_handed_on_as_it_was_read() {
    let table = table("{action}.{pk}.{column:name}.{column:big}", Identity::Default);
    let transaction = Transaction::new(1 << 32, 0, None);
    let row = Row {
        key: vec!["1".into()],
        pk: Some(vec!["1".into()]),
        columns: vec![Some("a.b".into()), None],
        record: r#"{"id": 1}"#.into(),
    };
    let message = table.read(&transaction, 0, &row);
    assert_eq!(message.key, "read.1.a%2Eb.%null");
    assert!(message.data.starts_with(r#"{"action":"read","record":{"id": 1},"changes":null,"#));
    assert!(message.data.contains(r#""metadata":{"xid":null,"index":0,"#));
    assert!(
        message.data.ends_with(r#""commit_lsn":"1/0","commit_time":"2000-01-01T00:00:00+00:00"}}"#)
    );
}

fn values() -> impl Strategy<Value = Vec<Option<String>>> {
    // The third column is a jsonb, whose text is JSON.
    let texts = ["{\"a\": [1]}", "null", "..."].map(|text| Some(text.to_owned()));
    let any_text = prop::option::of(prop_oneof!["[^\0]{0,8}", Just("...".to_owned())]);
    (prop::collection::vec(any_text, 4), prop::sample::select(texts.to_vec())).prop_map(
        |(mut values, json)| {
            values[2] = json;
            values
        },
    )
}

proptest! {
    #[test]
    fn every_message_is_json_with_a_key(
        (one, other) in (values(), values()),
        full in any::<bool>(),
        key_format in prop::sample::select(vec!["{pk}", "{schema}.{column:name}.{column:big}", "{table}{action}"]),
    ) {
        let row = |values: &[Option<String>]| -> Vec<Option<&'static str>> {
            values.iter().map(|value| value.clone().map(|text| &*text.leak())).collect()
        };
        let (one, other) = (tuple(&row(&one)), tuple(&row(&other)));
        let identity = if full { Identity::Full } else { Identity::Default };
        let old = if full { Old::Full(one.clone()) } else { Old::Key(one.clone()) };
        let table = table(key_format, identity);
        for change in [
            Change::Insert { new: &other },
            Change::Update { old: None, new: &other },
            Change::Update { old: Some(&old), new: &other },
            Change::Delete { old: &old },
            Change::Truncate,
        ] {
            let message = message(&table, change);
            prop_assert!(json_text::embed(&mut String::new(), &message.data), "{}", message.data);
            prop_assert_eq!(sequin_engine::key::check_key(&message.key), Ok(()));
            let unchanged = rest(&message).matches("\"big\"").count();
            let unfilled = table.unfilled(change).contains(&2);
            prop_assert!(change.new_row().is_none() || (unchanged == 1) == unfilled);
        }
    }
}

#[test]
fn a_row_that_is_shorter_than_its_table_lacks_the_rest() {
    let table = table("{pk}", Identity::Default);
    let new = tuple(&[Some("1")]);
    let message = message(&table, Change::Insert { new: &new });
    assert_eq!(body(&message), r#"{"action":"insert","record":{"id":1},"changes":null"#);
    assert_eq!(rest(&message), r#","unchanged":["name","big","at"]}}"#);
}
