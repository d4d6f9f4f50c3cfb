//! Dead rows that vacuum can't remove cost disk, not time: nothing reads them.

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, count_all, in_a_session, millis, seconds};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_new_dispatcher_reads_no_dead_rows,
        checkpoints_read_no_dead_rows,
        dropping_a_consumer_reads_no_dead_rows,
        changes_of_settings_read_no_dead_rows_of_sources,
        acks_that_were_open_at_the_last_checkpoint_outlive_a_crash,
    ]
}

/// Far more than is read of what lives.
const DEAD: i64 = 1000;

/// Begins to keep dead rows, until the session ends.
fn hold(database: &Database) -> Client {
    let mut holder = database.connect();
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    holder
}

/// A consumer whose journals have nothing but dead rows, and what keeps them.
fn dead_rows(database: &Database) -> (Client, Client) {
    let mut client = database.connect();
    client.create("s", "c", "");
    let holder = hold(database);
    in_a_session(database, |client| {
        client.batch_execute("SET synchronous_commit = off").unwrap();
        client.publish_numbers("s", DEAD as i32, DEAD as i32);
        for _ in 0..DEAD {
            let got = client.receive("c", 1, seconds(10));
            assert_eq!(client.ack("c", &ack_ids(&got)), 1);
        }
        let newest = "SELECT coalesce(max(acked_total), 0) FROM sequin.checkpoints";
        wait_until("a checkpoint has all of it", seconds(90), || client.number(newest) == DEAD);
        client.batch_execute("VACUUM sequin.acks, sequin.outbox").unwrap();
        for table in ["acks", "outbox"] {
            let bytes = format!("SELECT pg_relation_size('sequin.{table}')");
            assert!(client.number(&bytes) > 0, "the dead rows are gone");
        }
    });
    // What this dispatcher has read is counted at its end.
    client.restart_dispatcher();
    (client, holder)
}

/// Rows that index scans of the journals have found, dead ones among them, and sequential scans of them. What this
/// session does itself is counted some time later: it keeps away from the dead rows.
fn reads(database: &Database, client: &mut Client) -> (i64, i64) {
    count_all(database, client);
    let journals = "schemaname = 'sequin'
                    AND relname IN ('acks', 'outbox', 'checkpoints', 'source_progress')";
    let found = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_all_indexes WHERE ";
    let scans = "SELECT sum(seq_scan)::bigint FROM pg_stat_all_tables WHERE ";
    let mut number = |query: &str| client.number(&format!("{query}{journals}"));
    (number(found), number(scans))
}

fn reads_next_to_nothing(database: &Database, client: &mut Client, act: impl FnOnce(&mut Client)) {
    let before = reads(database, client);
    act(client);
    let after = reads(database, client);
    let found = after.0 - before.0;
    assert!(found < DEAD, "{found} rows were read");
    assert_eq!(after.1, before.1, "a sequential scan reads dead rows too");
}

fn a_new_dispatcher_reads_no_dead_rows() {
    let database = database("dead_rows_start");
    let (mut client, _holder) = dead_rows(&database);
    reads_next_to_nothing(&database, &mut client, |client| {
        (0..5).for_each(|_| client.restart_dispatcher());
    });
}

fn checkpoints_read_no_dead_rows() {
    let database = database("dead_rows_checkpoint");
    let (mut client, _holder) = dead_rows(&database);
    reads_next_to_nothing(&database, &mut client, |client| {
        for _ in 0..5 {
            client.publish("s", "a", "1");
            let got = client.receive("c", 1, seconds(10));
            assert_eq!(client.ack("c", &ack_ids(&got)), 1);
            // Its last checkpoint has the ack.
            client.restart_dispatcher();
        }
    });
}

fn dropping_a_consumer_reads_no_dead_rows() {
    let database = database("dead_rows_drop");
    let (mut client, _holder) = dead_rows(&database);
    reads_next_to_nothing(&database, &mut client, |client| {
        client.batch_execute("SELECT sequin.drop_consumer('c')").unwrap();
        (0..2).for_each(|_| client.restart_dispatcher());
    });
    assert_eq!(client.number("SELECT count(*) FROM sequin.acks"), 0);
}

fn changes_of_settings_read_no_dead_rows_of_sources() {
    let database = database("dead_rows_source");
    let mut client = database.connect();
    client.create("s", "c", "");
    let _holder = hold(&database);
    // As a capturer leaves them, of a source that is elsewhere.
    let rows = format!(
        "INSERT INTO sequin.sources (name, stream, owner, publication, owns_publication, key_format,
                                     backfill, id, system, database)
         VALUES ('source', 's', 'postgres', 'p', false, '', false, 7, 0, 0);
         INSERT INTO sequin.source_progress
         SELECT 7, 1, n, '0/1', NULL, 0 FROM generate_series(1, {DEAD}) n;
         DELETE FROM sequin.source_progress WHERE id < {DEAD}"
    );
    in_a_session(&database, |client| client.batch_execute(&rows).unwrap());
    client.restart_dispatcher();
    reads_next_to_nothing(&database, &mut client, |client| {
        for n in 0..5 {
            // One of a source that is gone, which is then looked for.
            let gone =
                format!("INSERT INTO sequin.source_progress VALUES (8, {n}, 1, '0/1', NULL, 0)");
            client.batch_execute(&gone).unwrap();
            client.create_consumer("s", &format!("c_{n}"), "");
            in_a_session(&database, |client| {
                client
                    .batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
                    .unwrap();
                let left = "SELECT count(*) FROM sequin.source_progress WHERE source_id = 8";
                wait_until("the row is gone", seconds(30), || client.number(left) == 0);
            });
        }
        client.restart_dispatcher();
    });
    assert_eq!(client.number("SELECT count(*) FROM sequin.source_progress"), 1);
}

/// Their ids are lower than the checkpoint's, and a crash leaves no time for another one.
fn acks_that_were_open_at_the_last_checkpoint_outlive_a_crash() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", "ack_wait => '1 h'");
    client.publish_numbers("s", 10, 10);
    let slow = client.receive("c", 3, seconds(10));
    let fast = client.receive("c", 3, seconds(10));
    let mut other = cluster.connect("postgres");
    let mut open = other.transaction().unwrap();
    assert_eq!(open.ack("c", &ack_ids(&slow)), 3);
    client.ack("c", &ack_ids(&fast));
    let newest = "SELECT coalesce(max(acked_total), 0) FROM sequin.checkpoints";
    wait_until("a checkpoint has the others", seconds(90), || client.number(newest) == 3);
    open.commit().unwrap();
    cluster.kill_9();
    cluster.boot();

    let mut client = cluster.connect("postgres");
    assert_eq!(client.acked_total(), 6);
    assert_eq!(client.drain("c", millis(300)).len(), 4);
    wait_until("the row is part of a checkpoint", seconds(90), || {
        client.number("SELECT count(*) FROM sequin.acks") == 0
    });
    // Which is all that the next dispatcher goes by.
    client.restart_dispatcher();
    assert_eq!(client.acked_total(), 10);
    assert!(client.receive("c", 10, millis(0)).is_empty());
    cluster.stop(Stop::Fast);
}
