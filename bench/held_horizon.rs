//! Point 9: the cycle of receive and ack while a transaction holds back what vacuum may remove.

use crate::backlog::Backlog;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};

const BATCH: usize = 10;

/// Beyond what four clients receive and ack in a second, in batches of 10.
const BACKLOG_PER_SECOND: usize = 150_000;

/// Dead rows need some time to become many: a run takes as many times the usual.
const TIMES: u32 = 3;

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let database = cluster.database("bench_horizon");
    let duration = options.duration() * TIMES;
    let mut backlog = Backlog::create(&database, BACKLOG_PER_SECOND * duration.as_secs() as usize);
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        free.push(backlog.receive_and_ack(BATCH, duration));
        let mut holder = database.connect();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sequin.consumers";
        holder.batch_execute(begin).unwrap();
        held.push(backlog.receive_and_ack(BATCH, duration));
        holder.batch_execute("COMMIT").unwrap();
    }
    let detail = format!("{:.0}/s open, {:.0}/s not", median(&held), median(&free));
    vec![Row::new("cost with it, to without", ratio(&free, &held)).at_most(1.3).detail(detail)]
}
