//! What others notice while the dispatcher reads over rows that show nothing: of a transaction that was rolled back, and of
//! messages that were deleted.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::messages::create_stream;
use crate::options::Options;
use crate::report::Row;
use crate::sample::percentile;
use sequin_testkit::cluster::{Cluster, Database};

const ROWS: u32 = 5_000_000;

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(120);

pub fn rows(cluster: &Cluster, _: &Options) -> Vec<Row> {
    let database = cluster.database("bench_dead");
    let mut client = database.connect();
    for stream in ["rolled_back", "deleted", "other"] {
        create_stream(&mut client, stream, &[format!("{stream}_consumer")], "");
    }
    let insert = |stream: &str| {
        format!(
            "INSERT INTO sequin_stream.{stream} (key, data)
             SELECT 'a', '1' FROM generate_series(1, {ROWS})"
        )
    };
    eprintln!("making {ROWS} dead rows, twice");
    client.batch_execute(&format!("BEGIN; {}; ROLLBACK", insert("rolled_back"))).unwrap();
    let rolled_back = disturbance(&database, "rolled_back");
    client.batch_execute(&insert("deleted")).unwrap();
    client.batch_execute("DELETE FROM sequin_stream.deleted").unwrap();
    client.batch_execute("SELECT sequin.rewind('deleted_consumer')").unwrap();
    let deleted = disturbance(&database, "deleted");
    let row = |what: &str, times: &[f64]| {
        let detail = format!("{} calls, p99 {:.2} ms", times.len(), percentile(times, 0.99));
        let what = format!("receive elsewhere while {ROWS} {what} rows are passed, max");
        Row::new(&what, percentile(times, 1.0)).unit(" ms").detail(detail).below(20.0)
    };
    vec![row("rolled-back", &rolled_back), row("deleted", &deleted)]
}

/// How long each call of receive takes, in milliseconds, while somebody waits for a message behind the dead rows.
fn disturbance(database: &Database, stream: &str) -> Vec<f64> {
    let mut client = database.connect();
    let last = format!("INSERT INTO sequin_stream.{stream} (key, data) VALUES ('b', '2')");
    client.batch_execute(&last).unwrap();
    let receive = "SELECT * FROM sequin.receive('other_consumer', 1, '0')";
    let receive = client.prepare(receive).unwrap();
    client.query(&receive, &[]).unwrap();
    let mut times = Vec::new();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&mut database.connect(), stream));
        let end = Instant::now() + DEADLINE;
        while !waiting.is_finished() {
            assert!(Instant::now() < end, "the message behind the dead rows never comes");
            let begun = Instant::now();
            client.query(&receive, &[]).unwrap();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            thread::sleep(Duration::from_millis(1));
        }
    });
    times
}

fn wait(client: &mut Client, stream: &str) {
    let receive = format!("SELECT * FROM sequin.receive('{stream}_consumer', 1, '2 min')");
    assert_eq!(client.query(&receive, &[]).unwrap().len(), 1);
}
