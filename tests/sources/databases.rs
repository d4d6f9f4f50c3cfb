//! Databases and extensions with sources in them are dropped, renamed, dumped and restored.

use std::process::Stdio;

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_identical, replay};
use crate::calls::Calls;
use crate::harness::{logical_cluster, trials};
use sequin_testkit::cluster::{Database, wait_until};
use sequin_testkit::process::succeed;

pub fn tests() -> Vec<Trial> {
    trials![
        drop_extension_drops_slots_and_publications,
        a_database_with_a_running_source_can_be_dropped,
        a_database_with_a_running_source_can_be_renamed,
        a_copy_of_a_database_has_no_slot,
        a_restored_source_waits_for_resume_source,
    ]
}

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)";

/// A command that something blocks would hang for ever.
const NOT_BLOCKED: &str = "SET statement_timeout = '20 s'";

fn slots_of(database: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'sequin%' AND database = '{database}'"
    )
}

fn drop_extension_drops_slots_and_publications() {
    let mut fixture = Fixture::capturing("dropped_extension", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.batch_execute(NOT_BLOCKED).unwrap();
    client.messages_of(&["INSERT INTO t VALUES (3, 3)"]);
    client.batch_execute("BEGIN; DROP EXTENSION sequin CASCADE; ROLLBACK").unwrap();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (4, 4)"]).len(), 1);
    client.batch_execute("DROP EXTENSION sequin CASCADE").unwrap();
    assert_eq!(client.publications(), [""; 0]);
    let slots = slots_of("dropped_extension");
    wait_until("its slots are gone", super::fixture::DEADLINE, || client.number(&slots) == 0);
    // In the middle of its work.
    client
        .batch_execute("DROP SCHEMA IF EXISTS sequin_stream CASCADE; CREATE EXTENSION sequin")
        .unwrap();
    client.batch_execute("SELECT sequin.create_stream('s')").unwrap();
    client.batch_execute("INSERT INTO t SELECT n, n FROM generate_series(10, 30000) n").unwrap();
    client.create_source("src", &["t"], "");
    client.batch_execute("UPDATE t SET v = 0").unwrap();
    client.batch_execute("DROP EXTENSION sequin CASCADE").unwrap();
    assert_eq!(client.publications(), [""; 0]);
    wait_until("its slots are gone", super::fixture::DEADLINE, || client.number(&slots) == 0);
    client.batch_execute("INSERT INTO t VALUES (-1, 0)").unwrap();
}

/// A database with a source, and no connection of ours to it.
fn left_alone(name: &str) -> Database<'static> {
    let Fixture { mut client, database } = Fixture::capturing(name, TABLE, &["t"]);
    client.messages_of(&["INSERT INTO t VALUES (3, 3)"]);
    client.wait_for_capturer();
    drop(client);
    let mut admin = logical_cluster().connect("postgres");
    let ours = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = 'client backend'"
    );
    wait_until("the client is gone", super::fixture::DEADLINE, || admin.number(&ours) == 0);
    database
}

fn a_database_with_a_running_source_can_be_dropped() {
    let database = left_alone("dropped_database");
    let mut admin = logical_cluster().connect("postgres");
    admin.batch_execute(NOT_BLOCKED).unwrap();
    admin.batch_execute(&format!("DROP DATABASE {}", database.name)).unwrap();
    assert_eq!(admin.number(&slots_of(&database.name)), 0);
}

fn a_database_with_a_running_source_can_be_renamed() {
    let database = left_alone("renamed_database");
    let mut admin = logical_cluster().connect("postgres");
    admin.batch_execute(NOT_BLOCKED).unwrap();
    admin.batch_execute("ALTER DATABASE renamed_database RENAME TO renamed_to").unwrap();
    let renamed = Database { cluster: database.cluster, name: "renamed_to".into() };
    let mut client = renamed.connect();
    client.batch_execute("INSERT INTO t VALUES (4, 4)").unwrap();
    client.catch_up();
    let databases = client.texts(
        "SELECT data->'metadata'->>'database' FROM sequin_stream.s
         WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(databases, ["renamed_database", "renamed_to"]);
}

fn a_copy_of_a_database_has_no_slot() {
    let database = left_alone("copied_database");
    let mut admin = logical_cluster().connect("postgres");
    admin.batch_execute(NOT_BLOCKED).unwrap();
    admin.batch_execute("CREATE DATABASE copied_to TEMPLATE copied_database").unwrap();
    let copy = Database { cluster: database.cluster, name: "copied_to".into() };
    assert_eq!(admin.number(&slots_of("copied_to")), 0);
    has_to_be_resumed(&copy);
    // The original goes on by itself.
    let mut client = database.connect();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (4, 4)"]).len(), 1);
}

/// A source whose slot is elsewhere says so; resumed, it reads everything, and goes on.
fn has_to_be_resumed(database: &Database) {
    let mut client = database.connect();
    let hint = client.wait_for_status("src", "restored");
    assert!(hint.contains("resume_source"), "{hint}");
    assert_eq!(client.number(&slots_of(&database.name)), 0);
    // It was created without: ask for it by hand.
    client.batch_execute("UPDATE t SET v = -1").unwrap();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    client.wait_for_status("src", "streaming");
    client.execute("SELECT sequin.backfill('src', 't')", &[]).unwrap();
    client.batch_execute("INSERT INTO t VALUES (5, 5)").unwrap();
    client.finish_backfills();
    replay(&mut client, &["t"]);
    assert_identical(&mut client, &["t"]);
}

fn a_restored_source_waits_for_resume_source() {
    let mut fixture = Fixture::new("dumped_source", TABLE);
    let into = logical_cluster().database_without_extension("restored_source");
    fixture.client.create_source("src", &["t"], "");
    fixture.client.finish_backfills();
    let mut dump = logical_cluster().client_program("pg_dump");
    let mut dump =
        dump.args(["--dbname", &fixture.database.name]).stdout(Stdio::piped()).spawn().unwrap();
    let mut restore = logical_cluster().client_program("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &into.name]);
    succeed(restore.stdin(dump.stdout.take().unwrap()));
    assert!(dump.wait().unwrap().success());

    let mut client = into.connect();
    let hint = client.wait_for_status("src", "restored");
    assert!(hint.contains("resume_source"), "{hint}");
    client.batch_execute("UPDATE t SET v = -1 WHERE id = 1; INSERT INTO t VALUES (3, 3)").unwrap();
    let before = client.last_seq();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    client.finish_backfills();
    client.batch_execute("UPDATE t SET v = -3 WHERE id = 3").unwrap();
    assert_eq!(
        client.messages_after(before),
        [
            r#"read t {"v": -1, "id": 1}"#,
            r#"read t {"v": 2, "id": 2}"#,
            r#"read t {"v": 3, "id": 3}"#,
            r#"update t {"v": -3, "id": 3}"#,
        ]
    );
    client.wait_for_status("src", "streaming");
    assert_eq!(client.publications().len(), 1);
    // Where it came from, it goes on by itself.
    let got = fixture.client.messages_of(&["INSERT INTO t VALUES (9, 9)"]);
    assert_eq!(got, [r#"insert t {"v": 9, "id": 9}"#]);
}
