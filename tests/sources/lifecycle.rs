//! Sources that are paused, resumed, altered and dropped.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_each_once, assert_identical, replay};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        a_paused_source_resumes_where_it_was,
        a_dropped_source_leaves_nothing,
        a_source_can_be_dropped_in_the_middle_of_its_work,
        a_stream_that_is_fed_is_dropped_by_force_only,
        a_source_can_be_dropped_and_created_in_one_transaction,
        an_altered_source_feeds_another_stream,
        a_truncated_stream_is_fed_on,
    ]
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int)";

fn a_paused_source_resumes_where_it_was() {
    let mut fixture = Fixture::capturing("paused", TABLE, &["t"]);
    let client = &mut fixture.client;
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (1, 0)"]).len(), 1);
    for n in 2..5 {
        client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
        client.wait_for("its capturer has gone", |client| client.capturer().is_none());
        assert_eq!(client.wait_for_status("src", "paused"), "");
        let before = client.number("SELECT count(*) FROM sequin_stream.s");
        client
            .batch_execute(&format!("INSERT INTO t VALUES ({n}, 0); UPDATE t SET v = {n}"))
            .unwrap();
        assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), before);
        client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
        client.catch_up();
        client.wait_for_status("src", "streaming");
    }
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    assert_each_once(client);
    // Undone, it was not paused.
    client.batch_execute("BEGIN; SELECT sequin.pause_source('src'); ROLLBACK").unwrap();
    client.catch_up();
}

fn a_dropped_source_leaves_nothing() {
    let mut fixture = Fixture::capturing("dropped_source", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 0)"]);
    assert_eq!(client.slots().len(), 1);
    assert_eq!(client.publications().len(), 1);
    client.batch_execute("BEGIN; SELECT sequin.drop_source('src'); ROLLBACK").unwrap();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (2, 0)"]).len(), 1);
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    assert_eq!(client.publications(), [""; 0]);
    client.wait_for("its slot is gone", |client| client.slots().is_empty());
    client.wait_for("its capturer is gone", |client| client.capturer().is_none());
    let left = "SELECT (SELECT count(*) FROM sequin.sources) + (SELECT count(*) FROM sequin.source_progress)
                     + (SELECT count(*) FROM sequin.backfills)";
    client.wait_for("nothing is left of it", |client| client.number(left) == 0);
    // The stream is not the source's.
    assert!(client.number("SELECT count(*) FROM sequin_stream.s") > 1);
    for function in ["drop_source", "pause_source", "resume_source"] {
        let call = format!("SELECT sequin.{function}('src')");
        assert_eq!(sqlstate(client.batch_execute(&call)), "42704");
    }
}

fn a_source_can_be_dropped_in_the_middle_of_its_work() {
    let mut fixture = Fixture::new("dropped_at_work", TABLE);
    let client = &mut fixture.client;
    let fill = "TRUNCATE t; INSERT INTO t SELECT n, 0 FROM generate_series(1, 30000) n";
    client.batch_execute(fill).unwrap();
    client.batch_execute("SET statement_timeout = '20 s'").unwrap();
    for round in 0..4 {
        client.create_source("src", &["t"], "");
        let before = client.last_seq();
        if round % 2 == 0 {
            client.batch_execute(fill).unwrap();
        }
        if round > 1 {
            client.wait_for("it is at work", |client| client.last_seq() > before);
        }
        client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
        let dropped_at = client.last_seq();
        client.wait_for("its slot is gone", |client| client.slots().is_empty());
        let _ = dropped_at;
    }
}

fn a_stream_that_is_fed_is_dropped_by_force_only() {
    let mut fixture = Fixture::capturing("fed_stream", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 0)"]);
    let result = client.batch_execute("SELECT sequin.drop_stream('s')");
    assert_eq!(sqlstate(result), "2BP01");
    client.batch_execute("SET statement_timeout = '20 s'").unwrap();
    client.batch_execute("SELECT sequin.drop_stream('s', force => true)").unwrap();
    client.wait_for("its slot is gone", |client| client.slots().is_empty());
    assert_eq!(client.publications(), [""; 0]);
    assert_eq!(client.number("SELECT count(*) FROM sequin.sources"), 0);
}

fn a_source_can_be_dropped_and_created_in_one_transaction() {
    let mut fixture = Fixture::capturing("replaced", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 0)"]);
    let create = super::fixture::create_source("src", &["t"], "");
    client
        .batch_execute(&format!("BEGIN; SELECT sequin.drop_source('src'); {create}; COMMIT"))
        .unwrap();
    client.finish_backfills();
    let before = client.last_seq();
    client.batch_execute("INSERT INTO t VALUES (2, 0)").unwrap();
    assert_eq!(client.messages_after(before), [r#"insert t {"v": 0, "id": 2}"#]);
    client.wait_for("only its own slot is there", |client| client.slots().len() == 1);
}

fn an_altered_source_feeds_another_stream() {
    let mut fixture = Fixture::capturing("altered_source", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 0)"]);
    client.batch_execute("SELECT sequin.create_stream('other')").unwrap();
    client.batch_execute("SELECT sequin.alter_source('src', stream => 'other')").unwrap();
    client.batch_execute("INSERT INTO t VALUES (2, 0)").unwrap();
    let id = "SELECT count(*) FROM sequin_stream.other WHERE data->'record'->>'id' = '2'";
    client.wait_for("it comes there", |client| client.number(id) == 1);
    let result = client.batch_execute("SELECT sequin.alter_source('src', stream => 'none')");
    assert_eq!(sqlstate(result), "42704");
}

fn a_truncated_stream_is_fed_on() {
    let mut fixture = Fixture::capturing("truncated_stream", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 0)"]);
    client.batch_execute("TRUNCATE sequin_stream.s").unwrap();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (2, 0)"]).len(), 1);
}
