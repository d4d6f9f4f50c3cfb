//! Many streams, consumers, sessions and databases at once, and a restart with them.
//!
//! `SEQUIN_TEST_FULL_SIZE=1` has 1,000 streams, 2,000 consumers and 500 connections, and tells what it has measured.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, seconds, seqs};
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![many_streams_consumers_sessions_and_databases_come_back_after_a_restart]
}

const DATABASES: usize = 5;
const CONSUMERS_OF_A_STREAM: usize = 2;

/// Streams of each database but the first, which has all others: one dispatcher is to have many. Also those that
/// sessions wait for, in each.
const FEW: usize = 10;

/// Far above what any single thing here takes, on a busy machine.
const DEADLINE: Duration = seconds(60);

/// How many, over all databases.
struct Size {
    streams: usize,
    sessions: usize,
    is_full: bool,
}

fn size() -> Size {
    match std::env::var_os("SEQUIN_TEST_FULL_SIZE") {
        Some(_) => Size { streams: 1000, sessions: 500, is_full: true },
        None => Size { streams: 140, sessions: 100, is_full: false },
    }
}

fn many_streams_consumers_sessions_and_databases_come_back_after_a_restart() {
    let size = size();
    let cluster = Cluster::start_with("max_connections = 600\nmax_locks_per_transaction = 256");
    let databases: Vec<Database> =
        (0..DATABASES).map(|n| cluster.database(&format!("many_{n}"))).collect();
    let many = size.streams - (DATABASES - 1) * FEW;
    let streams = |n: usize| if n == 0 { many } else { FEW };
    let tell = |what: &str| {
        if size.is_full {
            println!("{what}");
            databases.iter().for_each(tell_memory);
        }
    };
    each(&databases, |n, database| create(&mut database.connect(), streams(n)));
    each(&databases, |n, database| all_deliver(&mut database.connect(), streams(n), 1));
    tell("before the restart");

    cluster.restart();
    let begun = Instant::now();
    each(&databases, |_, database| {
        let mut client = database.connect();
        wait_until("a dispatcher works", DEADLINE, || client.number(DISPATCHER) != 0);
    });
    let started = begun.elapsed();
    each(&databases, |n, database| all_deliver(&mut database.connect(), streams(n), 2));
    let delivered = begun.elapsed();
    tell(&format!("dispatchers run after {started:?}, all have delivered after {delivered:?}"));

    each(&databases, |_, database| all_wait(database, size.sessions / DATABASES));
    tell("with all sessions");
}

/// Does something in all databases at once.
fn each(databases: &[Database], act: impl Fn(usize, &Database) + Sync) {
    thread::scope(|scope| {
        for (n, database) in databases.iter().enumerate() {
            let act = &act;
            scope.spawn(move || act(n, database));
        }
    });
}

/// Streams with their consumers, in transactions of some each.
fn create(client: &mut Client, streams: usize) {
    const AT_A_TIME: usize = 50;
    let numbers: Vec<usize> = (0..streams).collect();
    for some in numbers.chunks(AT_A_TIME) {
        let mut transaction = client.transaction().unwrap();
        for n in some {
            transaction.create(&format!("s{n}"), &format!("c{n}_0"), "");
            for m in 1..CONSUMERS_OF_A_STREAM {
                transaction.create_consumer(&format!("s{n}"), &format!("c{n}_{m}"), "");
            }
        }
        transaction.commit().unwrap();
    }
}

/// Each consumer gets what is published now and nothing else: for what was before, it has been acked.
fn all_deliver(client: &mut Client, streams: usize, expected_seq: i64) {
    for n in 0..streams {
        assert_eq!(client.publish(&format!("s{n}"), "a", "1"), expected_seq);
    }
    for n in 0..streams {
        for m in 0..CONSUMERS_OF_A_STREAM {
            let consumer = format!("c{n}_{m}");
            let held = client.receive(&consumer, 10, DEADLINE);
            assert_eq!(seqs(&held), [expected_seq], "{consumer}");
            assert_eq!(client.ack(&consumer, &ack_ids(&held)), 1, "{consumer}");
        }
    }
}

/// Every session waits for a consumer, as many for each, and gets a message.
fn all_wait(database: &Database, sessions: usize) {
    let of_each = sessions / (FEW * CONSUMERS_OF_A_STREAM);
    let mut client = database.connect();
    let receivers: Vec<Client> = (0..sessions).map(|_| database.connect()).collect();
    thread::scope(|scope| {
        let mut waiting = Vec::new();
        for (n, mut receiver) in receivers.into_iter().enumerate() {
            let consumer = format!("c{}_{}", n % FEW, n / FEW % CONSUMERS_OF_A_STREAM);
            waiting.push(scope.spawn(move || {
                let held = receiver.receive(&consumer, 1, DEADLINE);
                assert_eq!(receiver.ack(&consumer, &ack_ids(&held)), 1, "{consumer}");
            }));
        }
        let stats = "SELECT sum(waiting)::bigint FROM sequin.consumer_stats";
        wait_until("all wait", DEADLINE, || client.number(stats) == sessions as i64);
        for n in 0..FEW {
            client.publish_numbers(&format!("s{n}"), of_each as i32, of_each as i32);
        }
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
    });
}

/// The dispatcher's process of this database, or 0.
const DISPATCHER: &str = "SELECT coalesce(max(pid), 0)::bigint FROM sequin.workers
                          WHERE process = 'dispatcher' AND database = current_database()";

/// What the dispatcher of a database has in memory: shared buffers count in Rss, and by its share in Pss.
fn tell_memory(database: &Database) {
    let pid = database.connect().number(DISPATCHER);
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let wanted = ["Rss:", "Pss:", "Private_Dirty:"];
    let told: Vec<&str> =
        maps.lines().filter(|line| wanted.iter().any(|field| line.starts_with(field))).collect();
    println!("{}: {}", database.name, told.join(", "));
}
