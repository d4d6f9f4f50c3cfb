//! Maintenance and changes of tables and databases in the middle of a load: nothing hangs because of sequin, and all
//! goes on by itself afterwards.

use std::time::Duration;

use libtest_mimic::Trial;
use postgres::Client;

use super::captured::{all_is_captured, capture, change};
use super::load::{self, SMALL};
use crate::calls::{Calls, seconds, seqs, sqlstate};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        tables_are_reindexed_rewritten_and_altered_under_load,
        a_database_under_load_refuses_to_be_renamed_or_copied_and_goes_on,
        a_database_under_load_can_be_dropped_by_force,
        the_extension_can_be_dropped_under_load,
    ]
}

/// A command that something blocks would hang for ever.
const NOT_BLOCKED: &str = "SET statement_timeout = '20 s'";

/// Far above what anything here takes, on a busy machine.
const DEADLINE: Duration = seconds(30);

/// What must be processed after each command.
const SOME: usize = 20;

const BROKEN: &str = "";
const ADMIN_SHUTDOWN: &str = "57P01";
const OBJECT_IN_USE: &str = "55006";
/// A session commits an ack while the dispatcher that it has asked gives way to another, or ends with what is dropped.
const SERIALIZATION_FAILURE: &str = "40001";

/// Of the stream that is published to and received from.
const ON_THE_STREAM: [&str; 17] = [
    "REINDEX TABLE sequin_stream.s",
    "REINDEX TABLE CONCURRENTLY sequin_stream.s",
    "REINDEX INDEX sequin_stream.s_pkey",
    "VACUUM FULL sequin_stream.s",
    "VACUUM (FREEZE, ANALYZE) sequin_stream.s",
    "CLUSTER sequin_stream.s USING s_pkey",
    "ALTER TABLE sequin_stream.s ADD COLUMN plain text",
    "ALTER TABLE sequin_stream.s ADD COLUMN fixed int NOT NULL DEFAULT 5",
    "ALTER TABLE sequin_stream.s ADD COLUMN rewritten float DEFAULT random()",
    "ALTER TABLE sequin_stream.s ALTER COLUMN fixed TYPE text",
    "ALTER TABLE sequin_stream.s ADD CONSTRAINT c CHECK (fixed IS NOT NULL)",
    "ALTER TABLE sequin_stream.s DROP COLUMN plain",
    "ALTER TABLE sequin_stream.s SET (fillfactor = 90)",
    "ALTER TABLE sequin_stream.s SET UNLOGGED",
    "ALTER TABLE sequin_stream.s SET LOGGED",
    "CREATE INDEX CONCURRENTLY of_a_user ON sequin_stream.s (inserted_at)",
    "DROP INDEX CONCURRENTLY sequin_stream.of_a_user",
];

/// Of each of these tables.
const TABLES: [&str; 8] = [
    "outbox",
    "acks",
    "checkpoints",
    "consumers",
    "streams",
    "all_dead_letters",
    "sources",
    "source_progress",
];
const ON_A_TABLE: [&str; 4] = [
    "REINDEX TABLE sequin.%",
    "REINDEX TABLE CONCURRENTLY sequin.%",
    "VACUUM FULL sequin.%",
    "VACUUM (FREEZE, ANALYZE) sequin.%",
];

fn tables_are_reindexed_rewritten_and_altered_under_load() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let database = cluster.database("maintained");
    let mut admin = database.connect();
    load::prepare(&mut admin);
    capture(&mut admin);
    admin.batch_execute(NOT_BLOCKED).unwrap();
    let on_tables = TABLES.iter().flat_map(|table| ON_A_TABLE.map(|c| c.replace('%', table)));
    let whole = ["REINDEX SCHEMA sequin", "REINDEX SCHEMA CONCURRENTLY sequin_stream", "VACUUM"];
    let commands: Vec<String> =
        ON_THE_STREAM.into_iter().chain(whole).map(String::from).chain(on_tables).collect();
    let (_, known) = load::during(&database, SMALL, |load| {
        for command in &commands {
            if let Err(error) = admin.batch_execute(command) {
                panic!("{command}: {error:?}");
            }
            change(&mut admin).unwrap();
            load.wait_for_more(SOME);
        }
    });
    known.assert_failed_only_with(&[]);
    all_is_captured(&mut admin);
    load::settle(&mut admin, &known);
}

fn a_database_under_load_refuses_to_be_renamed_or_copied_and_goes_on() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let database = cluster.database("refuses");
    let mut client = database.connect();
    load::prepare(&mut client);
    capture(&mut client);
    let mut admin = cluster.connect("postgres");
    admin.batch_execute(NOT_BLOCKED).unwrap();
    let (_, known) = load::during(&database, SMALL, |load| {
        load.wait_for_more(SOME);
        for command in
            ["ALTER DATABASE refuses RENAME TO renamed", "CREATE DATABASE copy TEMPLATE refuses"]
        {
            assert_eq!(sqlstate(admin.batch_execute(command)), OBJECT_IN_USE, "{command}");
            change(&mut client).unwrap();
            load.wait_for_more(SOME);
        }
        wait_until("it is dropped, and the drop rolled back", DEADLINE, || {
            let dropped = drop_extension(&mut client, "BEGIN; DROP EXTENSION sequin CASCADE");
            client.batch_execute("ROLLBACK").unwrap();
            dropped
        });
        load.wait_for_more(SOME);
    });
    known.assert_failed_only_with(&[SERIALIZATION_FAILURE, DEADLOCK]);
    all_is_captured(&mut client);
    load::settle(&mut client, &known);
}

fn a_database_under_load_can_be_dropped_by_force() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let (dropped, other) = (cluster.database("dropped"), cluster.database("kept"));
    let mut client = dropped.connect();
    load::prepare(&mut client);
    capture(&mut client);
    load::prepare(&mut other.connect());
    let mut admin = cluster.connect("postgres");
    admin.batch_execute(NOT_BLOCKED).unwrap();
    let (_, kept) = load::during(&other, SMALL, |kept| {
        let (_, known) = load::during(&dropped, SMALL, |load| {
            load.wait_for_more(SOME);
            kept.wait_for_more(SOME);
            admin.batch_execute("DROP DATABASE dropped WITH (FORCE)").unwrap();
        });
        known.assert_failed_only_with(&[BROKEN, ADMIN_SHUTDOWN, SERIALIZATION_FAILURE]);
        kept.wait_for_more(SOME);
    });
    kept.assert_failed_only_with(&[]);
    load::settle(&mut other.connect(), &kept);
}

const DEADLOCK: &str = "40P01";

/// False if it has to be tried again: it locks what it drops in an order of its own, as any DROP .. CASCADE, which may
/// be a deadlock with whoever publishes; either of them may be the one that is told so.
fn drop_extension(client: &mut Client, command: &str) -> bool {
    match client.batch_execute(command) {
        Ok(()) => true,
        dropped => {
            assert_eq!(sqlstate(dropped), DEADLOCK);
            false
        }
    }
}

fn the_extension_can_be_dropped_under_load() {
    /// As PostgreSQL says that something is not there (any more); and what else may come of it.
    const GONE: [&str; 6] = ["42883", "42P01", "42704", "3F000", DEADLOCK, SERIALIZATION_FAILURE];
    let cluster = Cluster::start();
    let database = cluster.database("extension");
    let mut client = database.connect();
    client.batch_execute(NOT_BLOCKED).unwrap();
    for _ in 0..3 {
        load::prepare(&mut client);
        let (_, known) = load::during(&database, SMALL, |load| {
            load.wait_for_more(SOME);
            wait_until("it is dropped", DEADLINE, || {
                drop_extension(&mut client, "DROP EXTENSION sequin CASCADE")
            });
            wait_until("they notice", DEADLINE, || !load.known().failures.is_empty());
        });
        known.assert_failed_only_with(&GONE);
        client
            .batch_execute(
                "DROP SCHEMA IF EXISTS sequin_stream CASCADE; DROP TABLE processed; CREATE EXTENSION sequin",
            )
            .unwrap();
    }
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [seq]);
}
