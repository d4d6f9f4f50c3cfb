//! Point 7: what streams cost on which nothing happens, with a receiver waiting on each.

use std::thread;
use std::time::Duration;

use crate::cpu;
use crate::messages::create_stream;
use crate::options::Options;
use crate::report::Row;
use sequin_testkit::cluster::{Cluster, wait_until};

const STREAMS: usize = 100;

pub fn rows(cluster: &Cluster, _: &Options) -> Vec<Row> {
    let database = cluster.database("bench_idle");
    let mut client = database.connect();
    for n in 0..STREAMS {
        create_stream(&mut client, &format!("stream_{n}"), &[format!("consumer_{n}")], "");
    }
    let receivers: Vec<_> = (0..STREAMS).map(|_| database.connect()).collect();
    let used = thread::scope(|scope| {
        for (n, mut receiver) in receivers.into_iter().enumerate() {
            let receive = format!("SELECT * FROM sequin.receive('consumer_{n}', 1, '30 s')");
            scope.spawn(move || assert!(receiver.query(&receive, &[]).unwrap().is_empty()));
        }
        wait_until("all receivers wait", Duration::from_secs(5), || {
            let waiting = "SELECT sum(waiting)::bigint FROM sequin.consumer_stats";
            client.query_one(waiting, &[]).unwrap().get::<_, i64>(0) == STREAMS as i64
        });
        cpu::share_when_idle(cluster)
    });
    let what = format!("{STREAMS} streams, {STREAMS} waiting receivers: CPU");
    vec![Row::new(what, used * 100.0).unit("% of a core").below(1.0).detail(cpu::WHAT)]
}
