//! pgbench's own load, with a source on its tables and without.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{count, create_source, create_stream, message_comes};
use crate::load;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, percentile, ratio};
use sequin_testkit::cluster::{Cluster, Database};
use sequin_testkit::process::succeed;

/// With the source on, over all rounds.
const SECONDS: u64 = 60;

/// Ten branches: two clients seldom wait for each other.
const SCALE: usize = 10;

const TABLES: &str =
    "tables => '{pgbench_accounts,pgbench_branches,pgbench_tellers,pgbench_history,done}'";

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let database = cluster.database("bench_source_pgbench");
    let mut initialize = cluster.client_program("pgbench");
    initialize.args(["--initialize", "--quiet", &format!("--scale={SCALE}"), &database.name]);
    succeed(initialize.stdout(Stdio::null()));
    // It has no key, and is only inserted into.
    let prepare =
        "ALTER TABLE pgbench_history REPLICA IDENTITY FULL; CREATE TABLE done (id int PRIMARY KEY)";
    database.connect().batch_execute(prepare).unwrap();
    let duration = Duration::from_secs((SECONDS / options.rounds as u64).max(options.seconds));
    let (mut with, mut without, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("pgbench, round {round} of {}", options.rounds);
        // A B B A
        for is_captured in [round % 2 == 0, round % 2 == 1] {
            vacuum(&database);
            if is_captured {
                let (tps, seconds) = captured(&database, round, duration);
                with.push(tps);
                behind.push(seconds);
            } else {
                without.push(load::run_tpcb(&database, duration).per_second());
            }
        }
    }
    let detail = format!("{:.0}/s of {:.0}/s", median(&with), median(&without));
    let what = "pgbench at 2 clients, tps with a source on its tables, to without";
    let most = format!("median {:.3} s", median(&behind));
    vec![
        Row::new(what, ratio(&with, &without)).at_least(0.85).detail(detail),
        Row::new("the source behind pgbench at its end, at most", percentile(&behind, 1.0))
            .unit(" s")
            .below(1.0)
            .detail(most),
    ]
}

fn vacuum(database: &Database) {
    for statement in ["VACUUM", "CHECKPOINT"] {
        database.connect().batch_execute(statement).unwrap();
    }
}

/// Transactions in a second, and how many seconds later the last one's messages are in the stream.
fn captured(database: &Database, round: usize, duration: Duration) -> (f64, f64) {
    let mut client = database.connect();
    create_stream(&mut client, "stream");
    create_source(&mut client, "source", "stream", TABLES);
    let done = load::run_tpcb(database, duration);
    let begun = Instant::now();
    client.execute("INSERT INTO done VALUES ($1)", &[&(round as i32)]).unwrap();
    let at = message_comes(database, "stream", &format!("public.done.{round}"));
    assert_eq!(count(&mut client, "stream"), 4 * done.transactions as i64 + 1);
    client.batch_execute("SELECT sequin.drop_source('source')").unwrap();
    client.batch_execute("SELECT sequin.drop_stream('stream')").unwrap();
    (done.per_second(), (at - begun).as_secs_f64())
}
