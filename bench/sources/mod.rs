//! What table sources cost, and how fast they are.
//!
//! On a cluster of their own: wal_level logical would have its part in the other sections' figures.

mod backlog;
mod large;
mod pgbench;

use std::time::{Duration, Instant};

use postgres::Client;

use crate::latency;
use crate::options::Options;
use crate::report::Row;
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};

const CONFIG: &str = "
wal_level = logical
max_replication_slots = 32
";

/// Far longer than a source needs for anything here.
const DEADLINE: Duration = Duration::from_secs(600);

pub fn rows(_: &Cluster, options: &Options) -> Vec<Row> {
    let cluster = Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG));
    let mut rows = Vec::new();
    rows.extend(latency(&cluster));
    rows.extend(pgbench::rows(&cluster, options));
    rows.extend(backlog::rows(&cluster, options));
    rows.extend(large::rows(&cluster));
    cluster.stop(Stop::Fast);
    rows
}

fn latency(cluster: &Cluster) -> Vec<Row> {
    let database = cluster.database("bench_source_latency");
    let mut client = database.connect();
    client.batch_execute("CREATE TABLE changed (id int PRIMARY KEY, v text)").unwrap();
    create_stream(&mut client, "stream");
    client.batch_execute("SELECT sequin.create_consumer('stream', 'consumer')").unwrap();
    create_source(&mut client, "source", "stream", "tables => '{changed}'");
    let change = |n| format!("INSERT INTO changed VALUES ({n}, 'a row')");
    let samples = latency::samples(|| database.connect(), change);
    let [median, p99, ..] = latency::figures(&samples);
    vec![median.below(10.0), p99].into_iter().map(|row| row.of("change of a table: ")).collect()
}

fn create_stream(client: &mut Client, stream: &str) {
    client.execute("SELECT sequin.create_stream($1)", &[&stream]).unwrap();
}

/// A source of what is committed from now on, at work.
fn create_source(client: &mut Client, source: &str, stream: &str, what: &str) {
    let create =
        format!("SELECT sequin.create_source('{source}', '{stream}', {what}, backfill => false)");
    client.batch_execute(&create).unwrap();
    wait_for_status(client, source, "streaming");
}

fn wait_for_status(client: &mut Client, source: &str, status: &str) {
    let query = "SELECT status FROM sequin.source_stats WHERE source = $1";
    wait_until(&format!("source {source} is {status}"), DEADLINE, || {
        client.query_one(query, &[&source]).unwrap().get::<_, String>(0) == status
    });
}

/// When the message with this key is committed in the stream.
fn message_comes(database: &Database, stream: &str, key: &str) -> Instant {
    let mut client = database.connect();
    let query = format!("SELECT 1 FROM sequin_stream.{stream} WHERE key = $1");
    let query = client.prepare(&query).unwrap();
    wait_until(&format!("the message {key} comes"), DEADLINE, || {
        !client.query(&query, &[&key]).unwrap().is_empty()
    });
    Instant::now()
}

fn count(client: &mut Client, stream: &str) -> i64 {
    let query = format!("SELECT count(*) FROM sequin_stream.{stream}");
    client.query_one(&query, &[]).unwrap().get(0)
}
