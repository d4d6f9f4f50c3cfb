//! A transaction of many rows comes whole, and in bounded memory.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;

use super::fixture::{DEADLINE, Fixture, PAUSE, Sources};
use super::replay::assert_each_once;
use crate::calls::{Calls, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::{Cluster, Stop};

pub fn tests() -> Vec<Trial> {
    trials![
        a_large_transaction_comes_whole_and_in_bounded_memory,
        a_fast_stop_in_the_middle_of_a_large_transaction_is_fast_and_loses_nothing,
        what_a_large_transaction_has_undone_does_not_come,
    ]
}

const ROWS: i64 = 200_000;

/// For the dispatcher and the capturer, each.
const MEMORY: usize = 256 << 20;

const TABLE: &str = "CREATE TABLE large (id int PRIMARY KEY, v text)";

fn insert(rows: i64) -> String {
    format!(
        "INSERT INTO large SELECT n, 'a row of some length: ' || md5(n::text)
         FROM generate_series(1, {rows}) n"
    )
}

const COUNT: &str =
    "SELECT count(*) FROM sequin_stream.s WHERE data->'metadata'->>'table' = 'large'";

fn a_large_transaction_comes_whole_and_in_bounded_memory() {
    let mut fixture = Fixture::capturing("large", TABLE, &["large"]);
    let client = &mut fixture.client;
    client.create_consumer("s", "c", "");
    client.catch_up();
    let pids = client.texts(
        "SELECT pid::text FROM sequin.workers
         WHERE database = current_database() AND process IN ('dispatcher', 'capturer')",
    );
    assert_eq!(pids.len(), 2, "{}", client.state_of_sources());
    let done = AtomicBool::new(false);
    let (mut receiver, mut observer) = (fixture.database.connect(), fixture.database.connect());
    // The catching up above is in the stream, too.
    let first = receiver.receive("c", 1000, seconds(10));
    assert!(first.iter().all(|delivery| delivery.data.contains("marker")), "{first:?}");
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let first = receiver.receive("c", 1, DEADLINE);
            assert_eq!(first.len(), 1, "nothing has come");
            let visible = receiver.number(COUNT);
            done.store(true, Ordering::SeqCst);
            visible
        });
        let memory = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = pids.iter().map(|pid| private_memory(pid)).max().unwrap().max(most);
                let visible = observer.number(COUNT);
                assert!([0, ROWS].contains(&visible), "{visible} of {ROWS} are visible");
                thread::sleep(PAUSE);
            }
            most
        });
        client.batch_execute(&insert(ROWS)).unwrap();
        assert_eq!(received.join().unwrap(), ROWS, "of those visible with the first delivery");
        let most = memory.join().unwrap();
        assert!(most < MEMORY, "{} MB", most >> 20);
    });
    client.catch_up();
    assert_eq!(client.number(COUNT), ROWS);
    assert_each_once(client);
    let wrong = "SELECT count(*) FROM large
                 FULL JOIN (SELECT data->'record' AS record FROM sequin_stream.s
                            WHERE data->'metadata'->>'table' = 'large') s
                 ON (record->>'id')::int = id
                 WHERE record IS DISTINCT FROM to_jsonb(large)";
    assert_eq!(client.number(wrong), 0);
}

/// What a process has for itself, in bytes; shared memory doesn't count.
fn private_memory(pid: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.map_or(0, |kilobytes: usize| kilobytes << 10)
}

fn a_fast_stop_in_the_middle_of_a_large_transaction_is_fast_and_loses_nothing() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let mut fixture = Fixture::on(&cluster, "stopped", TABLE);
    fixture.client.create_source("src", &["large"], "backfill => false");
    fixture.client.catch_up();
    for n in 0..3 {
        fixture.client.batch_execute(&insert(ROWS / 2)).unwrap();
        thread::sleep(PAUSE * 20 * n);
        let begun = Instant::now();
        cluster.stop(Stop::Fast);
        assert!(begun.elapsed() < seconds(10), "it took {:?}", begun.elapsed());
        cluster.boot();
        fixture.reconnect();
        fixture.client.batch_execute("TRUNCATE large").unwrap();
    }
    fixture.client.catch_up();
    let of_each = "SELECT count(*)::text FROM sequin_stream.s
                   WHERE data->'metadata'->>'table' = 'large'
                   GROUP BY data->'metadata'->>'commit_lsn' ORDER BY min(seq)";
    let expected = [ROWS / 2, 1].repeat(3).iter().map(i64::to_string).collect::<Vec<_>>();
    assert_eq!(fixture.client.texts(of_each), expected);
    assert_each_once(&mut fixture.client);
}

fn what_a_large_transaction_has_undone_does_not_come() {
    let mut fixture = Fixture::capturing("undone", TABLE, &["large"]);
    let client = &mut fixture.client;
    client.batch_execute(&format!("BEGIN; {}; ROLLBACK", insert(ROWS / 4))).unwrap();
    client
        .batch_execute(&format!(
            "BEGIN; INSERT INTO large VALUES (-1);
             SAVEPOINT a; {}; ROLLBACK TO a;
             INSERT INTO large VALUES (-2); COMMIT",
            insert(ROWS / 4)
        ))
        .unwrap();
    assert_eq!(
        client.messages_after(0),
        [r#"insert large {"v": null, "id": -1}"#, r#"insert large {"v": null, "id": -2}"#]
    );
}
