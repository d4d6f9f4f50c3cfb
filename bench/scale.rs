//! Many of everything at once: streams, consumers, databases, connections. What they cost while nothing happens, and
//! how long after a restart of the server all of it works.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::load::Background;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, percentile};
use crate::{cpu, memory};
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};

const DATABASES: usize = 5;

/// In each database, each with two consumers.
const STREAMS: usize = 1_000;

/// In each database: receivers that wait, each for messages of another stream.
const RECEIVERS: usize = 100;

/// No figure here waits for a disk, but stopping does: for each of 30,000 files.
const CONFIG: &str = "
max_connections = 600
fsync = off
";

/// More would only take their time.
const MAX_ROUNDS: usize = 5;

/// Far longer than anything here needs.
const DEADLINE: Duration = Duration::from_secs(120);

pub fn rows(_: &Cluster, options: &Options) -> Vec<Row> {
    let cluster = Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG));
    let databases = create(&cluster);
    let receivers = receive(&databases);
    wait_for_receivers(&databases);
    let mut rows = Vec::from(memory_rows(&databases[0]));
    rows.push(idle_row(&cluster));
    drop(receivers);
    rows.extend(restart_rows(&cluster, &databases, options));
    cluster.stop(Stop::Fast);
    rows
}

/// The databases are copies of the first.
fn create(cluster: &Cluster) -> Vec<Database<'_>> {
    eprintln!("creating {DATABASES} databases of {STREAMS} streams");
    let first = cluster.database("bench_scale_1");
    let create = format!(
        "DO $$ BEGIN
             FOR n IN 1..{STREAMS} LOOP
                 PERFORM sequin.create_stream('stream_' || n);
                 PERFORM sequin.create_consumer('stream_' || n, 'consumer_' || n);
                 PERFORM sequin.create_consumer('stream_' || n, 'other_' || n);
                 COMMIT;
             END LOOP;
         END $$"
    );
    first.connect().batch_execute(&create).unwrap();
    let mut admin = cluster.connect("postgres");
    let is_free = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", first.name)
        + " AND backend_type = 'client backend'";
    wait_until("the client is gone", DEADLINE, || {
        admin.query_one(&is_free, &[]).unwrap().get::<_, i64>(0) == 0
    });
    let copies = (2..=DATABASES).map(|n| {
        let name = format!("bench_scale_{n}");
        let copy = format!("CREATE DATABASE {name} TEMPLATE {}", first.name);
        admin.batch_execute(&copy).unwrap();
        Database { cluster, name }
    });
    let copies: Vec<Database> = copies.collect();
    [first].into_iter().chain(copies).collect()
}

/// All connect at once, and wait until the value is dropped.
fn receive(databases: &[Database]) -> Vec<Background> {
    let script =
        "SELECT count(*) FROM sequin.receive('consumer_' || (:client_id + 1), 1, '1 h');\n";
    databases.iter().map(|database| Background::crowd(database, script, RECEIVERS)).collect()
}

fn wait_for_receivers(databases: &[Database]) {
    for database in databases {
        let mut client = database.connect();
        let waiting = "SELECT sum(waiting)::bigint FROM sequin.consumer_stats";
        wait_until("all receivers wait", DEADLINE, || {
            client.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == RECEIVERS as i64
        });
    }
}

fn memory_rows(database: &Database) -> [Row; 3] {
    let mut client = database.connect();
    let mut row = |whose: &str, pids: &str| {
        let pids = client.query(pids, &[]).unwrap();
        let bytes: Vec<f64> = pids.iter().map(|row| memory::private(row.get(0)) as f64).collect();
        let megabytes = median(&bytes) / f64::from(1 << 20);
        Row::new(format!("private memory: {whose}"), megabytes).unit(" MB")
    };
    let receivers = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                     AND pid <> pg_backend_pid() AND query LIKE '%sequin.receive%'";
    let dispatcher = "SELECT pid FROM sequin.workers
                      WHERE process = 'dispatcher' AND database = current_database()";
    let launcher = "SELECT pid FROM sequin.workers WHERE process = 'launcher'";
    [
        row("dispatcher", dispatcher),
        row("launcher", launcher),
        row("session that waits, median", receivers),
    ]
}

fn idle_row(cluster: &Cluster) -> Row {
    let what = format!("{DATABASES} databases, {} waiting receivers: CPU", DATABASES * RECEIVERS);
    Row::new(what, cpu::share_when_idle(cluster) * 100.0).unit("% of a core")
}

/// The clock runs from when the server accepts connections; all receivers come back at once.
fn restart_rows(cluster: &Cluster, databases: &[Database], options: &Options) -> Vec<Row> {
    let rounds = options.rounds.min(MAX_ROUNDS);
    let (mut ready, mut delivers, mut all_wait) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("restart {round} of {rounds}");
        cluster.restart();
        let begun = Instant::now();
        let receivers = receive(databases);
        ready.push(thread::scope(|scope| {
            let delivering: Vec<_> =
                databases.iter().map(|database| scope.spawn(|| deliver(database))).collect();
            wait_for_dispatchers(&mut databases[0].connect());
            let ready = begun.elapsed().as_secs_f64();
            delivering.into_iter().for_each(|thread| thread.join().unwrap());
            ready
        }));
        delivers.push(begun.elapsed().as_secs_f64());
        wait_for_receivers(databases);
        all_wait.push(begun.elapsed().as_secs_f64());
        drop(receivers);
    }
    let row = |what: &str, seconds: &[f64]| {
        let detail = format!("median {:.2} s of {rounds} restarts", median(seconds));
        Row::new(format!("restart: {what}, at most"), percentile(seconds, 1.0))
            .unit(" s")
            .detail(detail)
    };
    vec![
        row("all dispatchers run", &ready).below(5.0),
        row("every database delivers", &delivers).below(5.0),
        row("all receivers wait again", &all_wait),
    ]
}

fn wait_for_dispatchers(client: &mut Client) {
    let running =
        "SELECT count(*) FROM sequin.workers WHERE process = 'dispatcher' AND state = 'running'";
    wait_until("all dispatchers run", DEADLINE, || {
        client.query_one(running, &[]).unwrap().get::<_, i64>(0) == DATABASES as i64
    });
}

/// A message that is published now comes.
fn deliver(database: &Database) {
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.publish('stream_1', 'a', '1')").unwrap();
    let receive = "SELECT sequin.ack('other_1', array_agg(ack_id))
                   FROM sequin.receive('other_1', 1, '60 s')";
    assert_eq!(client.query_one(receive, &[]).unwrap().get::<_, i32>(0), 1);
}
