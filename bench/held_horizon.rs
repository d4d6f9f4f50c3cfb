//! Point 9: the cycle of receive and ack while a transaction holds back what vacuum may remove.
//!
//! In a database of its own, where it stays open through all rounds: it holds back nothing in the other one, with
//! which it takes turns.

use crate::backlog::Backlog;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};

const BATCH: usize = 10;

/// Dead rows need some time to become many: a run takes as many times the usual.
const TIMES: u32 = 3;

/// What four clients hardly receive and ack in a second, in batches of 10.
const BACKLOG_PER_SECOND: usize = 150_000;

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let duration = options.duration() * TIMES;
    let databases = ["bench_free", "bench_held"].map(|name| cluster.database(name));
    let [mut free, mut held] = databases.each_ref().map(|database| {
        Backlog::create(database, BACKLOG_PER_SECOND * duration.as_secs() as usize)
    });
    let mut holder = databases[1].connect();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sequin.consumers";
    holder.batch_execute(begin).unwrap();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        without.push(free.receive_and_ack(BATCH, duration));
        with.push(held.receive_and_ack(BATCH, duration));
    }
    holder.batch_execute("COMMIT").unwrap();

    let row = |what: &str, without: &[f64], with: &[f64]| {
        let detail = format!("{:.0}/s with, {:.0}/s without", median(with), median(without));
        Row::new(what, ratio(without, with)).detail(detail)
    };
    let last = options.rounds - 1;
    vec![
        row("cost with it, to without", &without, &with).at_most(1.3),
        row("the same, in the last round", &without[last..], &with[last..]),
    ]
}
