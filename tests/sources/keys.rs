//! Keys of messages, by the source's key_format.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources, create_source};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        all_fields_can_be_in_a_key,
        values_that_cannot_be_tokens_are_encoded,
        long_values_are_shortened_and_stay_apart,
        consumers_filter_by_these_keys,
        a_format_that_makes_no_keys_is_refused,
        an_altered_format_holds_from_then_on,
        a_row_has_one_key_whatever_happens_to_it,
        a_key_is_that_of_the_moment_whatever_was_altered_since,
    ]
}

const TABLE: &str = "CREATE TABLE t (id text PRIMARY KEY, c text)";

/// Table t, captured with a key format.
fn fixture(name: &str, table: &str, format: &str) -> Fixture<'static> {
    let mut fixture = Fixture::new(name, table);
    let settings = format!("backfill => false, key_format => '{format}'");
    fixture.client.create_source("src", &["t"], &settings);
    fixture
}

fn keys_of(fixture: &mut Fixture, statements: &[&str]) -> Vec<String> {
    let before = fixture.client.last_seq();
    fixture.client.messages_of(statements);
    fixture.client.texts(&format!(
        "SELECT key FROM sequin_stream.s
         WHERE seq > {before} AND data->'metadata'->>'table' = 't' ORDER BY seq"
    ))
}

fn all_fields_can_be_in_a_key() {
    let format = "x-{database}.{schema}/{table}.{action}.{pk}.{column:c}.end";
    let mut fixture = fixture("key_fields", TABLE, format);
    let keys = keys_of(
        &mut fixture,
        &[
            "INSERT INTO t VALUES (1, 'v')",
            "UPDATE t SET c = 'w'",
            "UPDATE t SET c = NULL",
            "DELETE FROM t",
            "TRUNCATE t",
        ],
    );
    assert_eq!(
        keys,
        [
            "x-key_fields.public/t.insert.1.v.end",
            "x-key_fields.public/t.update.1.w.end",
            "x-key_fields.public/t.update.1.%null.end",
            // The column is not in the old key.
            "x-key_fields.public/t.delete.1.%null.end",
            "x-key_fields.public/t.truncate.%null.%null.end",
        ]
    );
}

fn values_that_cannot_be_tokens_are_encoded() {
    let table = "CREATE TABLE t (id text, c text, PRIMARY KEY (id, c))";
    let mut fixture = fixture("key_encoded", table, "{pk}.{column:c}");
    let keys = keys_of(
        &mut fixture,
        &["INSERT INTO t VALUES ('a.b', '*'), ('>', E' \\t\\n'), ('%', ','), ('', 'é😀\"''\\{}'),
                                  (E'\\u0085', E'\\u2028\\u00a0'), ('%null', '%empty')"],
    );
    assert_eq!(
        keys,
        [
            "a%2Eb,%2A.%2A",
            "%3E,%20%09%0A.%20%09%0A",
            "%25,%2C.%2C",
            "%empty,é😀\"'\\{}.é😀\"'\\{}",
            "%C2%85,%E2%80%A8%C2%A0.%E2%80%A8%C2%A0",
            "%25null,%25empty.%25empty",
        ]
    );
}

fn long_values_are_shortened_and_stay_apart() {
    const KEY_BYTES: usize = 255;
    let mut fixture = fixture("key_long", TABLE, "{table}.{pk}.{column:c}");
    let long = "x".repeat(400);
    let dots = ".".repeat(300);
    let keys = keys_of(
        &mut fixture,
        &[
            &format!("INSERT INTO t VALUES ('{long}1', 'c'), ('{long}2', 'c'), ('{dots}', 'd')"),
            &format!("UPDATE t SET c = 'e' WHERE id = '{long}1'"),
            &format!("INSERT INTO t VALUES ('{}', '{}')", "é".repeat(300), "ü".repeat(200)),
        ],
    );
    let pk = |key: &str| key.split('.').nth(1).unwrap().to_string();
    for key in &keys {
        assert!(key.len() <= KEY_BYTES && key.starts_with("t."), "{key}");
        let (shortened, hash) = key.split('.').nth(1).unwrap().split_once('~').expect(key);
        assert_eq!(hash.len(), 16, "{key}");
        let whole = shortened.len() % 3 == 0 || !shortened.contains('%');
        assert!(whole, "cut within an encoded character: {key}");
    }
    assert_eq!(pk(&keys[0]), pk(&keys[3]), "the same row");
    assert_ne!(pk(&keys[0]), pk(&keys[1]), "another row");
    let hash = fnv_1a(&format!("{long}1"));
    assert!(pk(&keys[0]).ends_with(&format!("~{hash:016x}")), "{} {hash:016x}", keys[0]);
}

fn fnv_1a(text: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn consumers_filter_by_these_keys() {
    let mut fixture = fixture("key_filter", TABLE, "{table}.{action}.{pk}");
    let client = &mut fixture.client;
    client.create_consumer("s", "deletes", "filters => '{t.delete.*}'");
    client.messages_of(&["INSERT INTO t VALUES (1), (2)", "DELETE FROM t WHERE id = '2'"]);
    let got = client.receive("deletes", 10, crate::calls::seconds(10));
    assert_eq!(
        got.iter().map(|delivery| delivery.key.as_str()).collect::<Vec<_>>(),
        ["t.delete.2"]
    );
}

fn a_format_that_makes_no_keys_is_refused() {
    let mut fixture = Fixture::new("key_format", TABLE);
    let client = &mut fixture.client;
    let seventeen = ["a"; 17].join(".");
    for format in [
        "",
        ".",
        "{table}..{pk}",
        "{unknown}",
        "{table",
        "table}",
        "a b",
        "*",
        "{pk}.>",
        &seventeen,
    ] {
        let settings = format!("key_format => '{format}'");
        let result = client.batch_execute(&create_source("src", &["t"], &settings));
        assert_eq!(sqlstate(result), "22023", "{format}");
    }
    client.wait_for("no slot is left", |client| client.slots().is_empty());
    assert_eq!(client.publications(), [""; 0]);
}

fn an_altered_format_holds_from_then_on() {
    let mut fixture = fixture("key_altered", TABLE, "{table}.{pk}");
    let before = keys_of(&mut fixture, &["INSERT INTO t VALUES (1)"]);
    let alter = "SELECT sequin.alter_source('src', key_format => 'new.{pk}')";
    let after = keys_of(&mut fixture, &[alter, "INSERT INTO t VALUES (2)"]);
    assert_eq!([before, after].concat(), ["t.1", "new.2"]);
}

/// Of a table whose replica identity is another index than the primary key, a deletion knows that index's columns only.
fn a_row_has_one_key_whatever_happens_to_it() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, a text NOT NULL, b text NOT NULL, v int, UNIQUE (b, a));
                  ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_a_key;
                  INSERT INTO t VALUES (1, 'a', 'b', 0)";
    let mut fixture = Fixture::new("one_key", tables);
    fixture.client.create_source("src", &["t"], "key_format => '{table}.{pk}'");
    fixture.client.finish_backfills();
    let rest =
        keys_of(&mut fixture, &["UPDATE t SET v = 1", "UPDATE t SET id = 2", "DELETE FROM t"]);
    assert_eq!(rest, ["t.b,a"; 3]);
    let read = "SELECT key FROM sequin_stream.s WHERE data->>'action' = 'read'";
    assert_eq!(fixture.client.texts(read), ["t.b,a"]);
}

fn a_key_is_that_of_the_moment_whatever_was_altered_since() {
    let tables =
        "CREATE TABLE t (id int PRIMARY KEY, e text NOT NULL UNIQUE, f text NOT NULL UNIQUE)";
    let mut fixture = fixture("key_moment", tables, "{table}.{pk}");
    let client = &mut fixture.client;
    let before = client.last_seq();
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    // All of it is decoded when nothing of it is true any more.
    for statements in [
        "INSERT INTO t VALUES (1, 'e', 'f'); UPDATE t SET f = 'g'",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_e_key; UPDATE t SET f = 'h';
         ALTER TABLE t REPLICA IDENTITY USING INDEX t_f_key; UPDATE t SET id = 3",
        "ALTER TABLE t RENAME f TO ff; ALTER TABLE t REPLICA IDENTITY DEFAULT; DELETE FROM t",
        "ALTER TABLE t DROP id, ADD PRIMARY KEY (e); INSERT INTO t VALUES ('x', 'y'); DROP TABLE t",
    ] {
        client.batch_execute(&format!("BEGIN; {statements}; COMMIT")).unwrap();
    }
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    client.catch_up();
    let keys = "WHERE data->'metadata'->>'table' = 't' ORDER BY seq";
    let keys = format!("SELECT key FROM sequin_stream.s {keys}");
    assert_eq!(client.texts(&keys), ["t.1", "t.1", "t.e", "t.h", "t.3", "t.x"]);
    assert_eq!(before, 0);
}
