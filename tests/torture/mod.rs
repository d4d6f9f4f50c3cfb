//! Torture: clients publish and work while everything is done to the server that servers suffer; afterwards a checker
//! decides, by what the clients saw, whether the invariants held. `make torture` runs it for long.

mod checker;
mod fault;
mod history;
mod neighbour;
mod publisher;
mod recorder;
mod worker;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, millis, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use crate::others::{Done, keep_on, while_others};
use crate::seed::Seed;
use crate::sources::fixture::{Fixture, Sources};
use crate::sources::northwind;
use crate::sources::replay::{assert_each_once, assert_identical, replay};
use fault::{Durations, FAULTS};
use history::{Consumer, End, Fault, History, Message};
use publisher::{Publisher, STREAM};
use recorder::Recorder;
use sequin_testkit::cluster::{Cluster, Database};
use worker::Worker;

pub fn tests() -> Vec<Trial> {
    let mut trials = trials![histories_hold_whatever_the_server_suffers];
    trials.extend(checker::tests::tests());
    trials
}

/// Little memory for the dispatcher, so that consumers are trimmed all the time.
const SERVER: &str = "max_prepared_transactions = 2\nsequin.dispatcher_memory = '1MB'";

const PUBLISHERS: u64 = 8;
const WORKERS_OF_A_CONSUMER: u64 = 8;
/// Who changes the tables of a source.
const WRITERS: u64 = 2;
/// Who works in the second database.
const NEIGHBOURS: u64 = 3;

/// Publishers wait while so many messages are unfinished: what was published at the end has to be worked off.
const MOST_UNFINISHED: i64 = 5000;
/// A history is kept in memory, some 2 kB for a message.
const MOST_PUBLISHED: i64 = 2_000_000;

const CONSUMERS: [Consumer; 3] = [
    Consumer {
        name: "ordered",
        ordered: true,
        prefix: "",
        max_ack_pending: 10_000,
        max_deliver: None,
        ack_wait: seconds(2),
        backoff: Duration::ZERO,
    },
    Consumer {
        name: "unordered",
        ordered: false,
        prefix: "",
        max_ack_pending: 40,
        max_deliver: Some(6),
        ack_wait: seconds(2),
        backoff: millis(200),
    },
    Consumer {
        name: "filtered",
        ordered: true,
        prefix: "a.",
        max_ack_pending: 100,
        max_deliver: None,
        ack_wait: seconds(1),
        backoff: Duration::ZERO,
    },
];
const SETTINGS: [&str; 3] = [
    "ack_wait => '2 s'",
    "ack_wait => '2 s', ordered => false, max_ack_pending => 40, max_deliver => 6,
     backoff => '{50 ms, 200 ms}'",
    "ack_wait => '1 s', max_ack_pending => 100, filters => '{a.>}'",
];

/// How long faults go on: at least until each kind has come once.
fn seconds_to_run() -> Duration {
    let given = std::env::var("SECONDS_TO_RUN").ok();
    seconds(given.map_or(0, |seconds| seconds.parse().expect("SECONDS_TO_RUN is a number")))
}

fn histories_hold_whatever_the_server_suffers() {
    let duration = seconds_to_run();
    let seed = Seed::new();
    eprintln!("torture: {} s, SEED={}", duration.as_secs(), seed.number());
    let cluster = Cluster::start_with(&format!("{LOGICAL_DECODING}\n{SERVER}"));
    let mut fixture = Fixture::on(&cluster, "torture", "");
    neighbour::make(&cluster);
    let tables = northwind::load(&mut fixture);
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    fixture.client.create_source("src", &tables, "");
    // Not in a schema whose tables the writers change.
    let effect = "CREATE SCHEMA worker CREATE TABLE effect (consumer text, seq bigint)";
    fixture.client.batch_execute(effect).unwrap();
    fixture.client.execute("SELECT sequin.create_stream($1)", &[&STREAM]).unwrap();
    for (consumer, settings) in CONSUMERS.iter().zip(SETTINGS) {
        fixture.client.create_consumer(STREAM, consumer.name, settings);
    }

    let recorder = Recorder::new(History { consumers: CONSUMERS.to_vec(), ..Default::default() });
    suffer(&fixture.database, &recorder, &seed, duration);
    fixture.reconnect();
    work_off(&mut fixture.client, &recorder, &seed);
    let mut history = recorder.into_history();
    history.end = end(&mut fixture.client);
    judge(&history, &cluster, &seed);
    neighbour::judge(&cluster);

    fixture.client.finish_backfills();
    replay(&mut fixture.client, &tables);
    assert_identical(&mut fixture.client, &tables);
    assert_each_once(&mut fixture.client);
}

/// Clients at work, and faults one after the other.
fn suffer(database: &Database, recorder: &Recorder, seed: &Seed, duration: Duration) {
    let workers = WORKERS_OF_A_CONSUMER * CONSUMERS.len() as u64;
    let client = |id: u64, done: &Done| {
        let mut rng = seed.rng(id);
        if id <= PUBLISHERS {
            let mut publisher = Publisher::new(recorder, rng, id);
            keep_on(database, done, |client| {
                let is_enough = recorder.published() > MOST_PUBLISHED;
                let is_calm = recorder.is_calm() && fastrand::u8(0..10) > 0;
                if is_enough || is_calm || recorder.backlog() > MOST_UNFINISHED {
                    thread::sleep(millis(20));
                    return Ok(());
                }
                publisher.step(client)
            });
        } else if id <= PUBLISHERS + workers {
            let number = id as usize % CONSUMERS.len();
            let mut worker = Worker::new(recorder, &CONSUMERS[number], number, rng);
            keep_on(database, done, |client| worker.step(client));
        } else if id <= PUBLISHERS + workers + NEIGHBOURS {
            neighbour::work(database.cluster, done, &mut rng);
        } else {
            while !done.is_set() {
                northwind::write_until_it_fails(database, &mut rng, done, millis(10));
                thread::sleep(millis(20));
            }
        }
    };
    while_others(PUBLISHERS + workers + NEIGHBOURS + WRITERS, client, || {
        inject_faults(database, recorder, &mut seed.rng(0), duration);
    });
}

/// Every kind of fault in each round, in another order.
fn inject_faults(database: &Database, recorder: &Recorder, rng: &mut Rng, duration: Duration) {
    let is_short = duration.is_zero();
    let durations = Durations {
        stopped: if is_short { seconds(3) } else { seconds(10) },
        calm: if is_short { seconds(4) } else { seconds(10) },
    };
    let until = Instant::now() + duration;
    loop {
        let mut faults = FAULTS;
        rng.shuffle(&mut faults);
        for fault in faults {
            thread::sleep(millis(rng.u64(200..1500)));
            let begun = recorder.now();
            fault.inject(database, recorder, durations, rng);
            let (what, ended) = (fault.to_string(), recorder.now());
            if !is_short {
                eprintln!(
                    "{:>7.1} s  {what}, {} published",
                    begun.as_secs_f32(),
                    recorder.published()
                );
            }
            if !matches!(fault, fault::Fault::Calm) {
                recorder.fault(Fault { what, begun, ended, crash: fault.is_crash() });
            }
        }
        if Instant::now() >= until {
            return;
        }
    }
}

/// Until nothing is left for any consumer.
fn work_off(client: &mut Client, recorder: &Recorder, seed: &Seed) {
    const DEADLINE: Duration = seconds(120);
    let end = Instant::now() + DEADLINE;
    for (number, consumer) in CONSUMERS.iter().enumerate() {
        let mut worker = Worker::new(recorder, consumer, number, seed.rng(0));
        let left = format!(
            "SELECT ready + in_flight + delayed + withheld + lag
             FROM sequin.consumer_stats WHERE consumer = '{}'",
            consumer.name
        );
        while worker.drain(client).unwrap() > 0 || client.number(&left) > 0 {
            assert!(Instant::now() < end, "{} has {} left", consumer.name, client.number(&left));
        }
    }
}

fn end(client: &mut Client) -> End {
    let mut of_consumers = |query: &str| -> Vec<(usize, i64)> {
        let number = |name: &str| CONSUMERS.iter().position(|c| c.name == name).unwrap();
        let rows = client.query(query, &[]).unwrap();
        rows.iter().map(|row| (number(row.get(0)), row.get(1))).collect()
    };
    let dead = of_consumers("SELECT consumer, seq FROM sequin.dead_letters");
    let effects = of_consumers("SELECT consumer, seq FROM worker.effect");
    let stored =
        format!("SELECT seq, data::text::bigint, key FROM sequin_stream.{STREAM} ORDER BY 1");
    let stored = client.query(&stored, &[]).unwrap();
    let stored =
        stored.iter().map(|row| (row.get(0), Message { number: row.get(1), key: row.get(2) }));
    End { stored: stored.collect(), dead, effects }
}

/// A history that breaks a rule is kept, with the server's log.
fn judge(history: &History, cluster: &Cluster, seed: &Seed) {
    let report = checker::check(history);
    let deliveries: usize = history.receives.iter().map(|receive| receive.deliveries.len()).sum();
    let stored = history.end.stored.len();
    eprintln!(
        "torture: {stored} messages, {deliveries} deliveries, {} faults, {} empty answers in calm, SEED={}",
        history.faults.len(),
        report.judged,
        seed.number()
    );
    let is_enough = stored > 1000 && deliveries > 1000 && report.judged > 10;
    assert!(is_enough, "too little happened for a judgement");
    if report.violations.is_empty() {
        return;
    }
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{}", seed.number()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("history"), history.text()).unwrap();
    fs::copy(cluster.log(), directory.join("log")).unwrap();
    let violations = report.violations.join("\n");
    panic!("the history is in {}\n{violations}", directory.display());
}
