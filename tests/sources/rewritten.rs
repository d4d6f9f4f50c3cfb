//! A capturer decodes the past and reads and writes in the present, in one process. What it has cached of the catalogs of
//! one of these times must not be taken for what the other has.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use crate::calls::Calls;
use crate::harness::trials;
use sequin_testkit::process::signal;

pub fn tests() -> Vec<Trial> {
    trials![
        a_table_that_was_rewritten_is_read_as_it_is_while_older_changes_are_decoded,
        a_stream_that_was_rewritten_is_written_as_it_is_while_older_changes_are_decoded,
        old_changes_are_decoded_as_they_were_while_the_altered_table_is_read,
    ]
}

/// More than is decoded in several rounds.
const TRANSACTIONS: usize = 24;

const TABLES: &str = "
    CREATE TABLE t (id integer PRIMARY KEY, x text);
    INSERT INTO t SELECT n, 'old' FROM generate_series(1, 50) n;
    CREATE TABLE large (id integer PRIMARY KEY, x text)";

fn capturing(name: &str) -> Fixture<'static> {
    let mut fixture = Fixture::capturing(name, TABLES, &["t", "large"]);
    fixture.client.catch_up();
    fixture
}

/// Transactions that take a round each to be captured, while the capturer is stopped; then `rewrite`. Lets the capturer go
/// on.
fn behind(fixture: &mut Fixture, each: &str, rewrite: &[&str]) {
    let client = &mut fixture.client;
    let capturer = client.wait_for_capturer() as u32;
    signal("STOP", &[capturer]);
    for n in 1..=TRANSACTIONS {
        client
            .batch_execute(&format!(
                "BEGIN; {each}; INSERT INTO large VALUES ({n}, repeat('x', 1200000)); COMMIT"
            ))
            .unwrap();
    }
    rewrite.iter().for_each(|statement| client.batch_execute(statement).unwrap());
    signal("CONT", &[capturer]);
}

fn a_table_that_was_rewritten_is_read_as_it_is_while_older_changes_are_decoded() {
    let mut fixture = capturing("rewritten_table");
    let rewrite = ["VACUUM FULL t", "SELECT sequin.backfill('src', 't')"];
    behind(&mut fixture, "UPDATE t SET x = x || '.' WHERE id = 1", &rewrite);
    let client = &mut fixture.client;
    client.finish_backfills();
    let read = "SELECT count(DISTINCT data->'record'->>'id') FROM sequin_stream.s
                WHERE data->'metadata'->>'table' = 't'";
    assert_eq!(client.number(read), 50);
}

fn a_stream_that_was_rewritten_is_written_as_it_is_while_older_changes_are_decoded() {
    let mut fixture = capturing("rewritten_stream");
    let each = "UPDATE t SET x = x || '.' WHERE id = 1; SELECT sequin.publish('s', 'own', '1')";
    behind(&mut fixture, each, &["VACUUM FULL sequin_stream.s"]);
    let client = &mut fixture.client;
    client.catch_up();
    for (what, condition) in [
        ("published", "key = 'own'"),
        ("changes of t", "data->'metadata'->>'table' = 't'"),
        ("changes of large", "data->'metadata'->>'table' = 'large'"),
    ] {
        let count = format!("SELECT count(*) FROM sequin_stream.s WHERE {condition}");
        assert_eq!(client.number(&count), TRANSACTIONS as i64, "{what}");
    }
}

fn old_changes_are_decoded_as_they_were_while_the_altered_table_is_read() {
    let mut fixture = capturing("rewritten_columns");
    let rewrite = [
        "ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN y integer NOT NULL DEFAULT 7",
        "SELECT sequin.backfill('src', 't')",
    ];
    behind(&mut fixture, "UPDATE t SET x = x || '.' WHERE id = 1", &rewrite);
    let client = &mut fixture.client;
    client.finish_backfills();
    let of = |action: &str| {
        format!(
            "SELECT count(*) FROM sequin_stream.s
             WHERE data->'metadata'->>'table' = 't' AND data->>'action' = '{action}'"
        )
    };
    let old = of("update") + " AND data->'record'->>'x' LIKE 'old.%' AND NOT data->'record' ? 'y'";
    assert_eq!(client.number(&old), TRANSACTIONS as i64);
    let new = of("read") + " AND data->'record'->>'y' = '7' AND NOT data->'record' ? 'x'";
    assert!(client.number(&new) >= 49, "{}", client.number(&new));
}
