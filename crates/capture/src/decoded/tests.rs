use super::super::key_format::KeyFormat;
use super::super::message::Source;
use super::super::pgoutput::{Identity, Value};
use super::*;
use proptest::prelude::*;

/// The description of a table with columns id, g (generated), and p of a domain over a composite type.
fn description() -> Vec<u8> {
    let mut bytes = b"#\0\0\0\x07now\0\0\x01id\0".to_vec();
    bytes.extend(b"\0\x03id\0\0\x01\0\0\0\x17\0g\0\0\x02\0\0\0\x17\x01p\0\0\x03\0\0\x50\0\0");
    bytes.extend(b"\0\x03\0\0\0\x17o\0\0\x50\0d\0\0\x50\x01\0\0\x50\x01c\0\x01x\0\0\0\0\x17");
    bytes
}

fn described(bytes: &[u8]) -> Described<'_> {
    match parse(bytes) {
        Ok(Decoded::Described(described)) => described,
        _ => panic!("no description"),
    }
}

fn relation<'a>(columns: &[&'a str]) -> Relation<'a> {
    let column = |name: &&'a str| RelationColumn { name, type_oid: 23, is_key: *name == "id" };
    let columns = columns.iter().map(column).collect();
    Relation { oid: 7, schema: "before", name: "t", identity: Identity::Default, columns }
}

fn table(relation: &Relation, key: &[&str]) -> Table {
    let key_format = KeyFormat::parse("{pk}").unwrap();
    Table::new(&Source { name: "s".into(), database: "d".into(), key_format }, relation, key)
}

#[test]
fn a_relation_gets_the_name_of_its_schema_and_its_generated_columns() {
    let bytes = description();
    let described = described(&bytes);
    let mut relation = relation(&["id", "p"]);
    described.complete(&mut relation);
    let names: Vec<&str> = relation.columns.iter().map(|column| column.name).collect();
    assert_eq!((relation.schema, names), ("now", vec!["id", "p", "g"]));
}

#[test]
fn a_list_of_columns_has_no_generated_ones() {
    let bytes = description();
    let described = described(&bytes);
    let mut relation = relation(&["id"]);
    described.complete(&mut relation);
    assert_eq!(relation.columns.len(), 1);
}

#[test]
fn types_are_what_they_were() {
    let bytes = description();
    let mut types = Types::default();
    assert!(described(&bytes).types(&mut types).is_empty());
    let fields = vec![("x".to_owned(), 23)];
    assert_eq!(types.get(0x5001), &Type::Composite { fields });
    assert_eq!(types.get(0x5000), types.get(0x5001), "a domain is what it is made of");
}

#[test]
fn rows_get_the_values_of_generated_columns() {
    let table = table(&relation(&["id", "g", "h"]), &["id"]);
    // g is 2 now, and was NULL before; nothing is known of h.
    let mut bytes = b"+\0\x01g\0\0\x01t\0\0\0\x012\0\x01n".to_vec();
    bytes.extend(b"U\0\0\0\x07O\0\x01t\0\0\0\x011N\0\x01t\0\0\0\x013");
    let Ok(Decoded::Message(mut message, Some(generated))) = parse(&bytes) else {
        panic!("no change")
    };
    generated.complete(&table, &mut message);
    let Message::Update { old: Some(Old::Full(old)), new, .. } = message else {
        panic!("no update")
    };
    assert_eq!(new.values, [Value::Text("3"), Value::Text("2"), Value::Unchanged]);
    assert_eq!(old.values, [Value::Text("1"), Value::Null, Value::Unchanged]);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0..3_usize) {
        bytes.insert(0, b"#+R"[which]);
        let _ = parse(&bytes);
    }

    #[test]
    fn a_description_that_ends_early_is_malformed(length in 1..80_usize) {
        let bytes = description();
        let length = length.min(bytes.len() - 1);
        prop_assert!(parse(&bytes[..length]).is_err());
    }
}
