//! A transaction of many rows: the memory of the processes that handle it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{count, create_source, create_stream, message_comes};
use crate::memory;
use crate::report::Row;
use sequin_testkit::cluster::Cluster;

const ROWS: i64 = 2_000_000;

/// Between two looks at the memory.
const PAUSE: Duration = Duration::from_millis(20);

pub fn rows(cluster: &Cluster) -> Vec<Row> {
    let database = cluster.database("bench_source_large");
    let mut client = database.connect();
    let tables =
        "CREATE TABLE large (id int PRIMARY KEY, v text); CREATE TABLE done (id int PRIMARY KEY)";
    client.batch_execute(tables).unwrap();
    create_stream(&mut client, "stream");
    client.batch_execute("SELECT sequin.create_consumer('stream', 'consumer')").unwrap();
    create_source(&mut client, "source", "stream", "tables => '{large,done}'");
    let pids = ["dispatcher", "capturer"].map(|process| {
        let pid =
            "SELECT pid FROM sequin.workers WHERE process = $1 AND database = current_database()";
        client.query_one(pid, &[&process]).unwrap().get::<_, i32>(0)
    });
    let done = AtomicBool::new(false);
    let (seconds, most) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&pids, &done));
        eprintln!("writing a transaction of {ROWS} rows");
        let insert = format!(
            "INSERT INTO large SELECT n, 'a row of some length: ' || md5(n::text)
             FROM generate_series(1, {ROWS}) n"
        );
        client.batch_execute(&insert).unwrap();
        let begun = Instant::now();
        client.batch_execute("INSERT INTO done VALUES (1)").unwrap();
        let at = message_comes(&database, "stream", "public.done.1");
        // The dispatcher reads on.
        let seen = "SELECT ready + lag FROM sequin.consumer_stats";
        client.query_one(seen, &[]).unwrap();
        done.store(true, Ordering::SeqCst);
        ((at - begun).as_secs_f64(), watching.join().unwrap())
    });
    assert_eq!(count(&mut client, "stream"), ROWS + 1);
    let detail = format!("{:.1} s from its commit to its last message", seconds);
    let row = |process: &str, bytes: u64| {
        let what = format!("a transaction of 2,000,000 rows: private memory of the {process}");
        Row::new(what, bytes as f64 / f64::from(1 << 20)).unit(" MB").below(256.0)
    };
    vec![row("capturer", most[1]).detail(detail), row("dispatcher", most[0])]
}

/// The most that each of them has for itself, in bytes.
fn watch(pids: &[i32; 2], done: &AtomicBool) -> [u64; 2] {
    let mut most = [0; 2];
    while !done.load(Ordering::SeqCst) {
        for (most, pid) in most.iter_mut().zip(pids) {
            *most = memory::private(*pid).max(*most);
        }
        thread::sleep(PAUSE);
    }
    assert!(most.iter().all(|most| *most > 0), "a process has ended");
    most
}
