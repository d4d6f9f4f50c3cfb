//! Large values that an update leaves as they are: they are not in WAL, but in the record.

use libtest_mimic::Trial;
use postgres::Client;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_identical, replay};
use crate::harness::trials;
use crate::others::{Done, while_others};

pub fn tests() -> Vec<Trial> {
    trials![
        an_unchanged_large_value_is_read_from_the_row,
        an_unchanged_large_value_is_taken_from_a_full_old_row,
        a_value_that_has_changed_since_is_never_told_too_early,
        large_values_of_deleted_rows_are_told_by_full_identity,
        a_row_with_another_key_keeps_its_large_value,
        a_backfill_under_updates_has_all_large_values,
    ]
}

const TABLE: &str = "
    CREATE TABLE t (id int PRIMARY KEY, big text, list text[], v int);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL;
    -- 8 kB that tell one from another.
    CREATE FUNCTION big(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || repeat(md5($1), 256)'";

/// Messages of table t, with the large values in short: the text they were made of.
fn in_short(client: &mut Client) -> Vec<String> {
    client.catch_up();
    client.texts(
        "SELECT concat_ws(' ', data->>'action', record->>'v',
                          'big ' || CASE WHEN record->>'big' = big(left(record->>'big', 1)) THEN left(record->>'big', 1)
                                         ELSE 'WRONG ' || left(record->>'big', 100) END,
                          'list ' || (SELECT string_agg(CASE WHEN e = big(left(e, 1)) THEN left(e, 1) ELSE 'WRONG' END, ',')
                                      FROM jsonb_array_elements_text(nullif(record->'list', 'null')) e),
                          'changes ' || (SELECT string_agg(key || ' ' || left(value, 1), ',' ORDER BY key)
                                         FROM jsonb_each_text(nullif(data->'changes', 'null'))),
                          'unchanged ' || (data->'metadata'->>'unchanged'))
         FROM (SELECT seq, data, nullif(data->'record', 'null') AS record FROM sequin_stream.s) s
         WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    )
}

fn an_unchanged_large_value_is_read_from_the_row() {
    let mut fixture = Fixture::capturing("toast_read", TABLE, &["t"]);
    let client = &mut fixture.client;
    client
        .batch_execute("INSERT INTO t VALUES (1, big('a'), ARRAY[big('b'), big('c')], 0)")
        .unwrap();
    client.catch_up();
    client.batch_execute("UPDATE t SET v = 1").unwrap();
    client.catch_up();
    client.batch_execute("UPDATE t SET v = 2, big = big('d')").unwrap();
    client.catch_up();
    client.batch_execute("UPDATE t SET v = 3").unwrap();
    // Deletes know their key only.
    client.batch_execute("DELETE FROM t").unwrap();
    let got = in_short(client);
    let last = &got[3];
    assert_eq!(
        got[..3],
        ["insert 0 big a list b,c", "update 1 big a list b,c", "update 2 big d list b,c"]
    );
    // The row may be gone when it is looked for.
    let known = ["update 3 big d list b,c", r#"update 3 unchanged ["big", "list"]"#];
    assert!(known.contains(&last.as_str()), "{got:?}");
    assert_eq!(got[4..], ["delete"]);
}

fn an_unchanged_large_value_is_taken_from_a_full_old_row() {
    let table = format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL");
    let mut fixture = Fixture::capturing("toast_full", &table, &["t"]);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    for statement in [
        "INSERT INTO t VALUES (1, big('a'), ARRAY[big('b')], 0)",
        "UPDATE t SET v = 1",
        "UPDATE t SET v = 2, big = big('d')",
        "UPDATE t SET v = 3",
        "DELETE FROM t",
    ] {
        client.batch_execute(statement).unwrap();
    }
    // The row is gone when all this is decoded.
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    assert_eq!(
        in_short(client),
        [
            "insert 0 big a list b",
            "update 1 big a list b changes v 0",
            "update 2 big d list b changes big a,v 1",
            "update 3 big d list b changes v 2",
            "delete 3 big d list b",
        ]
    );
}

/// The current row has values of another time: then a value may be missing, but a wrong one is never told.
fn a_value_that_has_changed_since_is_never_told_too_early() {
    let mut fixture = Fixture::capturing("toast_ambiguous", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    for statement in [
        "INSERT INTO t VALUES (1, big('a'), ARRAY[big('b')], 0)",
        "UPDATE t SET v = 1",
        "UPDATE t SET v = 2, big = big('c')",
        "UPDATE t SET v = 3",
        "BEGIN; UPDATE t SET v = 4; UPDATE t SET list = ARRAY[big('e'), big('f')], v = 5; COMMIT",
        // The same key, another row.
        "DELETE FROM t",
        "INSERT INTO t VALUES (1, big('g'), NULL, 6)",
    ] {
        client.batch_execute(statement).unwrap();
    }
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    let got = in_short(client);
    // Each with and without what isn't in WAL.
    let known = [
        ["insert 0 big a list b", "insert 0 big a list b"],
        ["update 1 big a list b", r#"update 1 unchanged ["big", "list"]"#],
        ["update 2 big c list b", r#"update 2 big c unchanged ["list"]"#],
        ["update 3 big c list b", r#"update 3 unchanged ["big", "list"]"#],
        ["update 4 big c list b", r#"update 4 unchanged ["big", "list"]"#],
        ["update 5 big c list e,f", r#"update 5 list e,f unchanged ["big"]"#],
        ["delete", "delete"],
        ["insert 6 big g", "insert 6 big g"],
    ];
    assert_eq!(got.len(), known.len(), "{got:#?}");
    for (got, known) in got.iter().zip(known) {
        assert!(known.contains(&got.as_str()), "{got} is none of {known:?}");
    }
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
}

fn large_values_of_deleted_rows_are_told_by_full_identity() {
    let table = format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL");
    let mut fixture = Fixture::capturing("toast_deleted", &table, &["t"]);
    let client = &mut fixture.client;
    client
        .batch_execute("INSERT INTO t VALUES (1, big('a'), ARRAY[big('b')], 0); DELETE FROM t")
        .unwrap();
    assert_eq!(in_short(client), ["insert 0 big a list b", "delete 0 big a list b"]);
}

fn a_row_with_another_key_keeps_its_large_value() {
    let mut fixture = Fixture::capturing("toast_key", TABLE, &["t"]);
    let client = &mut fixture.client;
    client
        .batch_execute("INSERT INTO t VALUES (1, big('a'), NULL, 0), (2, big('b'), NULL, 0)")
        .unwrap();
    client.catch_up();
    client.batch_execute("UPDATE t SET id = 3 WHERE id = 1").unwrap();
    client.catch_up();
    client
        .batch_execute("BEGIN; DELETE FROM t WHERE id = 2; UPDATE t SET id = 2, v = 1; COMMIT")
        .unwrap();
    client.catch_up();
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    let got = in_short(client);
    assert_eq!(got[2..], ["update 0 big a changes id 1", "delete", "update 1 big a changes id 3"]);
}

/// A row whose changes come while it is read isn't read, and its changes don't have what they leave as it was.
fn a_backfill_under_updates_has_all_large_values() {
    const ROWS: usize = 2000;
    // Fewer than a reader can't keep up with, more than the reading of all rows lasts.
    const UPDATES: usize = 3000;
    let mut fixture = Fixture::new("toast_backfill", TABLE);
    let client = &mut fixture.client;
    client
        .batch_execute(&format!(
            "INSERT INTO t SELECT n, big(n::text), ARRAY[big((n * 7)::text)], 0 FROM generate_series(1, {ROWS}) n"
        ))
        .unwrap();
    let update = |n: u64, done: &Done| {
        let mut writer = fixture.database.connect();
        for _ in (0..UPDATES).take_while(|_| !done.is_set()) {
            let id = fastrand::usize(1..=ROWS);
            let update = match fastrand::u8(0..20) {
                0 => format!("UPDATE t SET big = big(random()::text) WHERE id = {id}"),
                // Neighbours, so that many rows are other ones when they are looked for.
                _ => format!("UPDATE t SET v = v + 1 WHERE id BETWEEN {id} AND {id} + {n} * 5"),
            };
            if let Err(error) = writer.batch_execute(&update) {
                assert_eq!(error.code().unwrap().code(), "40P01", "{error:?}");
            }
        }
    };
    while_others(2, update, || {
        client.create_source("src", &["t"], "");
        client.finish_backfills();
    });
    client.catch_up();
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
}
