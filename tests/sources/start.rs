//! What a source begins with: exactly what is committed after it.

use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources, create_source};
use super::replay::{assert_each_once, assert_identical, replay};
use crate::calls::{Calls, millis};
use crate::harness::trials;
use crate::others::{Done, while_others};
use sequin_testkit::cluster::{Cluster, Database};

pub fn tests() -> Vec<Trial> {
    trials![
        exactly_what_is_committed_after_create_source_is_captured,
        an_insert_right_after_it_is_captured,
        it_can_be_created_by_a_transaction_that_has_written,
        it_can_be_created_while_tables_are_rewritten,
        rolled_back_it_leaves_nothing,
        a_server_without_logical_wal_says_what_to_do,
        a_source_of_all_tables_does_not_capture_its_stream,
        many_sources_can_feed_one_stream,
    ]
}

/// PostgreSQL does not know of catalog changes that were committed while it was looking for a slot's first snapshot.
fn it_can_be_created_while_tables_are_rewritten() {
    const ROUNDS: usize = 30;
    /// Of each writer, between two rewrites.
    const PAUSE: Duration = millis(30);
    let tables = "CREATE TABLE t1 (id int PRIMARY KEY); CREATE TABLE t2 (id int PRIMARY KEY);
                  CREATE TABLE t3 (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)";
    let mut fixture = Fixture::new("rewritten", tables);
    let database = &fixture.database;
    let rewrite = |n: u64, done: &Done| {
        let mut client = database.connect();
        // Others' transactions are open, for which making a slot waits.
        let change =
            format!("BEGIN; INSERT INTO t{n} SELECT coalesce(max(id), 0) + 1 FROM t{n}; COMMIT");
        let rewrite = format!("BEGIN; TRUNCATE t{n}; INSERT INTO t{n} VALUES (1); COMMIT");
        while !done.is_set() {
            client.batch_execute(&change).unwrap();
            client.batch_execute(&rewrite).unwrap();
            thread::sleep(PAUSE);
        }
    };
    let client = &mut fixture.client;
    while_others(WRITERS, rewrite, || {
        for _ in 0..ROUNDS {
            client.create_source("src", &["t"], "backfill => false");
            client.catch_up();
            client.execute("SELECT sequin.drop_source('src')", &[]).unwrap();
        }
    });
}

const TABLE: &str = "CREATE TABLE t (writer int, n int, PRIMARY KEY (writer, n))";

const WRITERS: u64 = 3;

/// Rows 1, 2, 3 .. of each writer, one transaction for each. The number of the last row that was committed when the
/// source was asked for, and of the first begun when it was there, bound what must be captured.
fn exactly_what_is_committed_after_create_source_is_captured() {
    for round in 0..3 {
        let mut fixture = Fixture::new(&format!("start_{round}"), TABLE);
        let client = &mut fixture.client;
        let mut observer = fixture.database.connect();
        let mut last = || observer.texts(LAST_ROWS);
        let database = &fixture.database;
        let (before, after) = while_others(
            WRITERS,
            |writer, done| write(database, writer, done),
            || {
                thread::sleep(millis(100));
                let before = last();
                client.create_source("src", &["t"], "backfill => false");
                let after = last();
                thread::sleep(millis(100));
                (before, after)
            },
        );
        client.catch_up();
        let first = client.texts(
            "SELECT writer || ' ' || min(n) || ' ' || (max(n) - min(n) + 1 = count(*))
             FROM (SELECT (data->'record'->>'writer')::int AS writer, (data->'record'->>'n')::int AS n
                   FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't') s
             GROUP BY writer ORDER BY writer",
        );
        let last_captured = "SELECT count(*) FROM t
             WHERE (writer, n) IN (SELECT writer, max(n) FROM t GROUP BY writer)
               AND EXISTS (SELECT FROM sequin_stream.s WHERE key = 'public.t.' || writer || ',' || n)";
        assert_eq!(client.number(last_captured), WRITERS as i64);
        for ((first, before), after) in first.iter().zip(&before).zip(&after) {
            let number = |text: &str| text.split(' ').nth(1).unwrap().parse::<i64>().unwrap();
            assert!(first.ends_with("true"), "rows are missing in between: {first}");
            assert!(
                number(before) < number(first) && number(first) <= number(after) + 2,
                "captured from {first} on; committed before {before}, after {after}"
            );
        }
        assert_each_once(client);
    }
}

const LAST_ROWS: &str = "SELECT writer || ' ' || max(n) FROM t GROUP BY writer ORDER BY writer";

fn write(database: &Database, writer: u64, done: &Done) {
    let mut client = database.connect();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").unwrap();
    let mut n = 0;
    while !done.is_set() {
        n += 1;
        client.execute(&insert, &[&(writer as i32), &n]).unwrap();
    }
}

fn an_insert_right_after_it_is_captured() {
    for round in 0..5 {
        let mut fixture = Fixture::new(&format!("right_after_source_{round}"), TABLE);
        let client = &mut fixture.client;
        client.batch_execute("INSERT INTO t VALUES (0, 0)").unwrap();
        client.create_source("src", &["t"], "backfill => false");
        client.batch_execute("INSERT INTO t VALUES (1, 1)").unwrap();
        assert_eq!(client.messages_after(0), [r#"insert t {"n": 1, "writer": 1}"#]);
    }
}

fn it_can_be_created_by_a_transaction_that_has_written() {
    let mut fixture = Fixture::new("has_written", "");
    let client = &mut fixture.client;
    let create = create_source("src", &["t"], "");
    client
        .batch_execute(&format!("BEGIN; {TABLE}; INSERT INTO t VALUES (1, 1); {create}; COMMIT"))
        .unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 2); UPDATE t SET n = 3 WHERE n = 1").unwrap();
    client.finish_backfills();
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    // And with the extension and all.
    let database = fixture.database.cluster.database_without_extension("has_written_all");
    let mut client = database.connect();
    client
        .batch_execute(&format!(
            "BEGIN; CREATE EXTENSION sequin; SELECT sequin.create_stream('s'); {TABLE};
             CREATE TABLE marker (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
             INSERT INTO t VALUES (1, 1); {create}; COMMIT; INSERT INTO t VALUES (2, 2)"
        ))
        .unwrap();
    client.finish_backfills();
    replay(&mut client, &["t"]);
    assert_identical(&mut client, &["t"]);
}

fn rolled_back_it_leaves_nothing() {
    let mut fixture = Fixture::new("rolled_back", TABLE);
    let client = &mut fixture.client;
    let create = create_source("src", &["t"], "");
    for before in ["", "INSERT INTO t VALUES (1, 1);", "SAVEPOINT a;"] {
        client.batch_execute(&format!("BEGIN; {before} {create}; ROLLBACK")).unwrap();
        client.wait_for("its slot is gone", |client| client.slots().is_empty());
    }
    client.batch_execute(&format!("BEGIN; SAVEPOINT a; {create}; ROLLBACK TO a; COMMIT")).unwrap();
    client.wait_for("its slot is gone", |client| client.slots().is_empty());
    assert_eq!(client.publications(), [""; 0]);
    assert_eq!(client.number("SELECT count(*) FROM sequin.source_stats"), 0);
    // A session that ends in the middle of it leaves nothing either.
    let mut other = fixture.database.connect();
    other.batch_execute(&format!("BEGIN; {create}")).unwrap();
    drop(other);
    client.wait_for("its slot is gone", |client| client.slots().is_empty());
    client.create_source("src", &["t"], "backfill => false");
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (2, 2)"]).len(), 1);
}

fn a_server_without_logical_wal_says_what_to_do() {
    let cluster = Cluster::start_with("wal_level = replica");
    let mut fixture = Fixture::on(&cluster, "no_logical", TABLE);
    let error = fixture.client.batch_execute(&create_source("src", &["t"], "")).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("wal_level"), "{error:?}");
}

fn a_source_of_all_tables_does_not_capture_its_stream() {
    let mut fixture = Fixture::new("all_tables", TABLE);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_stream('other')").unwrap();
    client.create_consumer("s", "c", "");
    client.batch_execute("SELECT sequin.create_source('src', 's')").unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 1)").unwrap();
    client.publish("other", "a", "1");
    client.publish("s", "a", "{\"metadata\": {\"table\": \"none\"}}");
    client.finish_backfills();
    client
        .batch_execute("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)")
        .unwrap();
    let held = client.receive("c", 1000, millis(1000));
    client.ack("c", &crate::calls::ack_ids(&held));
    // Each of these is one message, and none of them makes another one.
    let before = client.number("SELECT count(*) FROM sequin_stream.s");
    for _ in 0..5 {
        client.catch_up();
    }
    let after = client.number("SELECT count(*) FROM sequin_stream.s");
    let late = "SELECT count(*) FROM sequin_stream.s WHERE data->'metadata'->>'table' = 'later'";
    assert_eq!(client.number(late), 1);
    assert!((5..=6).contains(&(after - before)), "{} more messages", after - before);
    let own = "SELECT count(*) FROM sequin_stream.s
               WHERE data->'metadata'->>'schema' IN ('sequin', 'sequin_stream')";
    assert_eq!(client.number(own), 0);
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.other"), 1);
}

fn many_sources_can_feed_one_stream() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)";
    let mut fixture = Fixture::new("many_sources", tables);
    let client = &mut fixture.client;
    let create = |source, table| {
        format!("SELECT sequin.create_source('{source}', 's', '{{{table}}}', backfill => false)")
    };
    client.create_source("src", &[], "backfill => false");
    client.batch_execute(&create("one", "t")).unwrap();
    client.batch_execute(&create("two", "u")).unwrap();
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 100)").unwrap();
    client.batch_execute("INSERT INTO u SELECT generate_series(1, 100)").unwrap();
    let got = "SELECT count(*) FROM sequin_stream.s
               WHERE data->'metadata'->>'source' = CASE data->'metadata'->>'table' WHEN 't' THEN 'one'
                                                   WHEN 'u' THEN 'two' END";
    client.wait_for("all have come", |client| client.number(got) == 200);
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), 200);
}
