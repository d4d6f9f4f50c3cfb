//! Consumers that the dispatcher has not in memory, or not all of.

use std::fs;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        statistics_are_right_of_what_is_not_loaded,
        a_damaged_stream_shows_before_anybody_receives,
        consumers_together_stay_within_the_dispatchers_memory,
    ]
}

const STATS: &str = "SELECT string_agg(concat_ws(' ', consumer, in_flight, delayed, ack_floor, acked_total, dead_total,
                                                 redelivered_total, status), E'\\n' ORDER BY consumer)
                     FROM sequin.consumer_stats";

fn stats(client: &mut Client) -> String {
    client.query_one(STATS, &[]).unwrap().get(0)
}

fn statistics_are_right_of_what_is_not_loaded() {
    let database = database("unloaded_stats");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.create_consumer("s", "d", "max_deliver => 1");
    client.publish_numbers("s", 9, 9);
    let got = client.receive("c", 6, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&got[..2])), 2);
    client.execute("SELECT sequin.reject('c', $1, 'no')", &[&ack_ids(&got[2..3])]).unwrap();
    client.execute("SELECT sequin.nack('c', $1, '1 h')", &[&ack_ids(&got[3..4])]).unwrap();
    let got = client.receive("d", 1, seconds(10));
    client.execute("SELECT sequin.nack('d', $1)", &[&ack_ids(&got)]).unwrap();
    let before = stats(&mut client);
    assert_eq!(before, "c 2 1 3 2 1 0 active\nd 0 0 1 0 1 0 active");
    client.restart_dispatcher();
    assert_eq!(stats(&mut client), before);
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [7, 8, 9]);
    assert_eq!(
        client.number("SELECT in_flight FROM sequin.consumer_stats WHERE consumer = 'c'"),
        5
    );
}

fn a_damaged_stream_shows_before_anybody_receives() {
    let database = database("unloaded_damage");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.publish_numbers("s", 3, 3);
    let got = client.receive("c", 3, seconds(10));
    client.ack("c", &ack_ids(&got));
    client.restart_dispatcher();
    client
        .batch_execute("SELECT setval(pg_get_serial_sequence('sequin_stream.s', 'seq'), 1)")
        .unwrap();
    let status = "SELECT count(*) FROM sequin.consumer_stats
                  WHERE status = 'damaged' AND last_error LIKE '%seqs up to 3 have been used%'";
    assert_eq!(client.number(status), 1);
}

/// All together would load a quarter of a gigabyte.
fn consumers_together_stay_within_the_dispatchers_memory() {
    const CONSUMERS: usize = 60;
    const MESSAGES: i32 = 20_000;
    let cluster = Cluster::start_with("sequin.dispatcher_memory = '4MB'");
    let database = cluster.database("unloaded_memory");
    let mut client = database.connect();
    client.create("s", "c0", "");
    (1..CONSUMERS).for_each(|n| client.create_consumer("s", &format!("c{n}"), ""));
    // All of them are at the tail, which is read for the first.
    for n in 0..CONSUMERS {
        assert_eq!(client.receive(&format!("c{n}"), 1, millis(0)).len(), 0);
    }
    client.publish_numbers("s", MESSAGES, MESSAGES);
    let got = client.drain("c0", millis(0));
    assert_eq!(seqs(&got), (1..=MESSAGES.into()).collect::<Vec<i64>>());
    for n in 1..CONSUMERS {
        let consumer = format!("c{n}");
        let got = client.receive(&consumer, 2, seconds(10));
        assert_eq!(seqs(&got), [1, 2]);
        assert_eq!(client.ack(&consumer, &ack_ids(&got[..1])), 1);
    }
    // What is in flight is kept, whatever else is forgotten.
    for n in 1..CONSUMERS {
        assert_eq!(seqs(&client.receive(&format!("c{n}"), 1, seconds(10))), [3]);
    }
    let pid = client.number("SELECT pid::bigint FROM sequin.workers WHERE process = 'dispatcher'");
    wait_until("the dispatcher has given memory back", seconds(60), || private_megabytes(pid) < 80);
}

/// What a process has for itself.
fn private_megabytes(pid: i64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}
