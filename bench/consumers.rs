//! Many consumers, of which most are idle; one with a million messages of one key waiting; and a thousand that are all far
//! behind: what the dispatcher takes for it, in time and memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::load::{Background, CLIENTS, run};
use crate::messages::{PAYLOAD, create_stream, publish};
use crate::options::Options;
use crate::report::Row;
use crate::sample::{percentile, ratio};
use crate::{cpu, memory};
use sequin_testkit::cluster::{Cluster, Database, wait_until};

const STREAMS: usize = 100;

/// Of each stream.
const CONSUMERS: usize = 100;

/// Of each stream, those that somebody uses.
const ACTIVE: usize = 10;

/// Messages published in a second, and as many calls of receive.
const RATE: u64 = 1_000;

/// Messages of one key that wait for the first, and other keys.
const WITHHELD: usize = 1_000_000;
const KEYS: usize = 1_000;

/// Consumers that are behind, and by how much.
const BEHIND: usize = 1_000;
const BACKLOG: usize = 100_000;

/// What `sequin.dispatcher_memory` is by default, in MB.
const BUDGET: f64 = 256.0;

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(300);

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let mut rows = many(cluster, options);
    rows.push(hot_key(cluster, options));
    rows.extend(behind(cluster));
    rows
}

/// 10,000 consumers, 1,000 of them active.
fn many(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let database = cluster.database("bench_consumers");
    let mut client = database.connect();
    eprintln!("creating {} consumers on {STREAMS} streams", STREAMS * CONSUMERS);
    for stream in 0..STREAMS {
        let create = format!(
            "DO $$ BEGIN
                 PERFORM sequin.create_stream('s{stream}');
                 FOR n IN 0..{} LOOP
                     PERFORM sequin.create_consumer('s{stream}', 'c{stream}_' || n, ARRAY['k' || n || '.>']);
                 END LOOP;
             END $$",
            CONSUMERS - 1
        );
        client.batch_execute(&create).unwrap();
    }
    // All are loaded once.
    for stream in 0..STREAMS {
        for n in 0..CONSUMERS {
            receive(&mut client, &format!("c{stream}_{n}"), 1);
        }
    }
    // A stream's name can't be drawn in a call that is prepared with constants: it is an argument like any other.
    let publish = format!(
        "\\set s random(0, {})\n\\set k random(0, {})\n\
         SELECT sequin.publish('s' || :s, 'k' || :k || '.x', '{PAYLOAD}');\n",
        STREAMS - 1,
        ACTIVE - 1
    );
    let publishers = Background::at_rate(&database, &publish, RATE);
    let times = receive_from_many(&database, Duration::from_secs(options.seconds.max(5)));
    drop(publishers);
    let active = STREAMS * ACTIVE;
    let detail = format!(
        "{} calls, median {:.2} ms, max {:.2} ms",
        times.len(),
        percentile(&times, 0.5),
        percentile(&times, 1.0)
    );
    let what =
        format!("{} consumers, {active} active at {RATE}/s: receive, p99", STREAMS * CONSUMERS);
    let p99 = Row::new(what, percentile(&times, 0.99)).unit(" ms").detail(detail).below(5.0);
    let taken = memory_row("the same: private memory of the dispatcher", &mut client);
    let idle = cpu::share_over(cluster, Duration::from_secs(60)) * 100.0;
    let idle = Row::new("the same, idle: CPU", idle)
        .unit("% of a core")
        .detail("CPU time of all the server's processes in 60 s")
        .below(1.0);
    vec![p99, taken, idle]
}

/// How long calls of receive take, in milliseconds, of which each client makes its part of RATE.
fn receive_from_many(database: &Database, duration: Duration) -> Vec<f64> {
    let pause = Duration::from_micros(1_000_000 * CLIENTS as u64 / RATE);
    let run = || {
        let mut client = database.connect();
        let (mut times, end) = (Vec::new(), Instant::now() + duration);
        while Instant::now() < end {
            let (stream, n) = (fastrand::usize(..STREAMS), fastrand::usize(..ACTIVE));
            let begun = Instant::now();
            receive(&mut client, &format!("c{stream}_{n}"), 10);
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            thread::sleep(pause.saturating_sub(begun.elapsed()));
        }
        times
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(run)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Receives without waiting, and acks.
fn receive(client: &mut Client, consumer: &str, batch: i32) -> usize {
    let receive = "SELECT ack_id FROM sequin.receive($1, $2, wait => '0')";
    let ids: Vec<i64> =
        client.query(receive, &[&consumer, &batch]).unwrap().iter().map(|row| row.get(0)).collect();
    if !ids.is_empty() {
        client.execute("SELECT sequin.ack($1, $2)", &[&consumer, &ids]).unwrap();
    }
    ids.len()
}

/// A million messages of one key wait for the first, and other keys of the same consumer flow.
fn hot_key(cluster: &Cluster, options: &Options) -> Row {
    let database = cluster.database("bench_hot_key");
    let mut client = database.connect();
    create_stream(&mut client, "stream", &["consumer".into()], ", ack_wait => '1 h'");
    let script = format!(
        "\\set k random(1, {KEYS})\n\
         SELECT sequin.publish('stream', 'key.' || :k, '{PAYLOAD}');\n\
         SELECT coalesce(array_agg(ack_id), '{{}}') AS ids \
         FROM sequin.receive('consumer', 10, '0') \\gset\n\
         SELECT sequin.ack('consumer', :ids::bigint[]);\n"
    );
    let take = || {
        let duration = Duration::from_secs(options.seconds.max(5));
        (0..options.rounds.min(5)).map(|_| run(&database, &script, duration).per_second()).collect()
    };
    let without: Vec<f64> = take();
    client.batch_execute("SELECT sequin.publish('stream', 'hot', '1')").unwrap();
    let hold = "SELECT count(*) FROM sequin.receive('consumer', 1000, '0') WHERE key = 'hot'";
    wait_until("the first of the hot key is held", DEADLINE, || {
        client.query_one(hold, &[]).unwrap().get::<_, i64>(0) == 1
    });
    eprintln!("{WITHHELD} messages of one key wait");
    let more = format!(
        "INSERT INTO sequin_stream.stream (key, data)
         SELECT 'hot', '1' FROM generate_series(1, {WITHHELD})"
    );
    client.batch_execute(&more).unwrap();
    let withheld = "SELECT withheld FROM sequin.consumer_stats";
    wait_until("all of them are withheld", DEADLINE, || {
        receive(&mut client, "consumer", 10);
        client.query_one(withheld, &[]).unwrap().get::<_, i64>(0) >= WITHHELD as i64
    });
    let with: Vec<f64> = take();
    let taken = memory_of_dispatcher(&mut client);
    Row::new(
        format!("{KEYS} keys while {WITHHELD} messages of another wait, to without"),
        ratio(&with, &without),
    )
    .detail(format!(
        "{:.0}/s of {:.0}/s; private memory of the dispatcher {taken:.0} MB",
        percentile(&with, 0.5),
        percentile(&without, 0.5)
    ))
    .at_least(0.9)
}

/// Each of a thousand consumers is behind by the whole stream, and all are received from in turn.
fn behind(cluster: &Cluster) -> Vec<Row> {
    let database = cluster.database("bench_behind");
    let mut client = database.connect();
    let consumers: Vec<String> = (0..BEHIND).map(|n| format!("c{n}")).collect();
    create_stream(&mut client, "stream", &consumers, "");
    eprintln!("{BEHIND} consumers are behind by {BACKLOG}");
    publish(&mut client, "stream", "key", BACKLOG);
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut client, mut most) = (database.connect(), 0_f64);
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(memory_of_dispatcher(&mut client));
                thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let drain = |part: usize| {
            let mut client = database.connect();
            for round in 0..3 {
                for n in (0..BEHIND).skip(part).step_by(CLIENTS) {
                    let got = receive(&mut client, &format!("c{n}"), 100);
                    assert_eq!(got, 100, "consumer {n} in round {round}");
                }
            }
        };
        let parts: Vec<_> = (0..CLIENTS).map(|part| scope.spawn(move || drain(part))).collect();
        parts.into_iter().for_each(|part| part.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    let what =
        format!("{BEHIND} consumers behind by {BACKLOG}: private memory of the dispatcher, most");
    vec![Row::new(what, most).unit(" MB").below(BUDGET)]
}

fn memory_row(what: &str, client: &mut Client) -> Row {
    Row::new(what, memory_of_dispatcher(client)).unit(" MB").below(BUDGET)
}

/// In MB.
fn memory_of_dispatcher(client: &mut Client) -> f64 {
    let pid = "SELECT pid FROM sequin.workers
               WHERE process = 'dispatcher' AND database = current_database()";
    let bytes = memory::private(client.query_one(pid, &[]).unwrap().get(0));
    bytes as f64 / f64::from(1 << 20)
}
