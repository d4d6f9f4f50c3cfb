//! Full disks: nothing that was committed is lost, nothing that was acked comes back, and all goes on with new room.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use super::captured::{all_is_captured, capture, change};
use super::load;
use super::mount::{self, Mount};
use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{LOGICAL_DECODING, trials};
use crate::sources::{Fixture, Sources};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    let trials = trials![
        a_full_data_directory_loses_nothing_and_ends_with_new_room,
        a_full_tablespace_stops_its_own_publishers_only,
        a_capturer_without_room_for_a_large_transaction_says_so_and_goes_on_with_new_room,
    ];
    let is_possible = mount::is_possible();
    if !is_possible {
        eprintln!("faults::disk needs root or sudo, to mount a small disk: ignored");
    }
    trials.into_iter().map(|trial| trial.with_ignored_flag(!is_possible)).collect()
}

const DISK_FULL: &str = "53100";
const BROKEN: &str = "";
const CRASH_SHUTDOWN: &str = "57P02";

/// The bytes of a message: many fill a disk soon, and none is so large that it goes elsewhere.
const PAYLOAD: usize = 1500;

/// What must be processed in each phase of a load before the next begins.
const SOME: usize = 100;

/// MB that are left, to be filled: less than what is left of a segment of WAL (16 MB) that was just begun.
const LITTLE: u64 = 6;

/// Failures after which the disk has been full for a while, for all who work with it.
const MANY: usize = 300;

const DEADLINE: Duration = seconds(40);

fn a_full_data_directory_loses_nothing_and_ends_with_new_room() {
    let cluster = Cluster::stopped();
    let disk = Mount::at(&cluster.data());
    // The space of deleted rows is not used again: whoever writes needs more.
    cluster.create(&format!("{LOGICAL_DECODING}\nautovacuum = off"));
    let database = cluster.database("full_disk");
    let mut client = database.connect();
    load::prepare(&mut client);
    capture(&mut client);
    client.create("t", "d", "");
    client.publish_numbers("t", 50, 50);
    let (_, known) = load::during(&database, PAYLOAD, |load| {
        load.wait_for_more(SOME);
        client.batch_execute("SELECT pg_switch_wal(); CREATE TABLE begins_a_segment ()").unwrap();
        disk.leave(LITTLE);
        wait_until("publishers find the disk full", DEADLINE, || {
            let _ = change(&mut client);
            load.known().failed_with(DISK_FULL) >= MANY
        });
        dispatcher_does_without_journal(&cluster, &mut client);
        disk.leave_much();
        load.wait_for_more(SOME);
    });
    known.assert_failed_only_with(&[DISK_FULL]);
    all_is_captured(&mut client);
    load::settle(&mut client, &known);
    assert_eq!(client.drain("d", seconds(1)).len(), 50);

    // Now where not even WAL can be written: PostgreSQL ends, and does not come back before there is room.
    let (_, known) = load::during(&database, PAYLOAD, |load| {
        load.wait_for_more(SOME);
        disk.leave(LITTLE);
        let next = "SELECT pg_switch_wal(); SELECT pg_current_xact_id()";
        wait_until("the server is down", DEADLINE, || {
            let _ = change(&mut client);
            client.batch_execute(next).is_err() && client.is_closed()
        });
    });
    known.assert_failed_only_with(&[DISK_FULL, BROKEN, CRASH_SHUTDOWN]);
    assert!(known.failed_with(BROKEN) + known.failed_with(CRASH_SHUTDOWN) > 0);
    disk.leave_much();
    cluster.kill_9();
    cluster.boot();
    let mut client = database.connect();
    all_is_captured(&mut client);
    load::settle(&mut client, &known);
    assert_eq!(client.receive("d", 1, millis(0)).len(), 0, "an acked message came back");
    let (_, known) = load::during(&database, PAYLOAD, |load| load.wait_for_more(SOME));
    known.assert_failed_only_with(&[]);
    load::settle(&mut client, &known);
}

/// Has the dispatcher journal deliveries until it can't any more, and then some more.
fn dispatcher_does_without_journal(cluster: &Cluster, client: &mut Client) {
    /// A few attempts, and what they say: not hundreds.
    const LINES_A_SECOND: usize = 40;
    const LONGER: Duration = seconds(2);
    // When too much is unwritten there are none any more, and after some time a call says why.
    let mut give_and_take = || match client.try_receive("d", 50, millis(100)) {
        Ok(held) => assert_eq!(client.nack("d", &ack_ids(&held)) as usize, held.len()),
        Err(error) => {
            let told = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
            assert!(told.contains("cannot write"), "{error:?}");
        }
    };
    let failures = || {
        let log = fs::read_to_string(cluster.log()).unwrap();
        log.lines().filter(|line| line.contains("sequin dispatcher: cannot write")).count()
    };
    wait_until("the dispatcher finds the disk full", DEADLINE, || {
        give_and_take();
        failures() > 0
    });
    let begun = Instant::now();
    while begun.elapsed() < LONGER {
        give_and_take();
    }
    let lines = failures();
    assert!(
        lines <= LINES_A_SECOND * begun.elapsed().as_secs() as usize,
        "{lines} lines in the log"
    );
}

fn a_full_tablespace_stops_its_own_publishers_only() {
    let cluster = Cluster::start();
    let place = cluster.data().with_file_name("tablespace");
    let disk = Mount::at(&place);
    let database = cluster.database("full_tablespace");
    let mut client = database.connect();
    load::prepare(&mut client);
    client.create("t", "d", "");
    let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", place.display());
    client.batch_execute(&tablespace).unwrap();
    client.batch_execute("ALTER TABLE sequin_stream.s SET TABLESPACE small").unwrap();
    let (_, known) = load::during(&database, PAYLOAD, |load| {
        load.wait_for_more(SOME);
        disk.leave(LITTLE);
        wait_until("the disk is full for a while", DEADLINE, || {
            load.known().failed_with(DISK_FULL) >= MANY
        });
        // What is there comes, and is acked; the other stream notices nothing.
        wait_until("all comes to both", DEADLINE, || {
            let known = load.known();
            known.processed.len() >= 2 * known.published.len()
        });
        for _ in 0..20 {
            let seq = client.publish("t", "a", "1");
            let held = client.receive("d", 10, seconds(10));
            assert_eq!(seqs(&held), [seq]);
            assert_eq!(client.ack("d", &ack_ids(&held)), 1);
        }
        disk.leave_much();
        load.wait_for_more(SOME);
    });
    known.assert_failed_only_with(&[DISK_FULL]);
    load::settle(&mut client, &known);
}

/// What does not fit into memory waits in a file (`src/pg/spool.rs`), in the server's directory for such.
fn a_capturer_without_room_for_a_large_transaction_says_so_and_goes_on_with_new_room() {
    const ROWS: i64 = 20_000;
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let disk = Mount::at(&cluster.data().join("base/pgsql_tmp"));
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let mut fixture = Fixture::on(&cluster, "full_spool", table);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    client.catch_up();
    disk.leave(LITTLE);
    // 20 MB: more than fits into memory and onto the disk.
    let insert =
        format!("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, {ROWS}) n");
    client.batch_execute(&insert).unwrap();
    client.wait_for("it is told", |client| client.status("src").1.contains("No space left"));
    client.batch_execute("INSERT INTO t VALUES (0, 'small')").unwrap();
    disk.leave_much();
    client.catch_up();
    let ids = "SELECT count(*) = 20001 AND count(DISTINCT data->'record'->>'id') = 20001
               FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't'";
    assert!(client.query_one(ids, &[]).unwrap().get::<_, bool>(0), "lost or doubled");
    client.wait_for("nothing is wrong any more", |client| client.status("src").1.is_empty());
}
