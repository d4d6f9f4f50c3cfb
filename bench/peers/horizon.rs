//! The full cycle while a transaction in the same database holds its snapshot, so that vacuum can remove nothing.
//!
//! Each arm, held and clean, has a cluster of its own, since an open snapshot is everybody's in a database. They work
//! in slices that take turns; a cluster whose turn it isn't goes on vacuuming. Publishers wait while enough messages
//! do, so that what is measured is the cycle and not a growing backlog.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use super::message;
use super::peer::{Load, Peer, SEQUIN};
use super::plot::{self, Line};
use super::sql::Sql;
use crate::options::Options;
use crate::report::Row;
use crate::sample::mean;
use sequin_testkit::cluster::{Cluster, Stop};

const LOAD: Load = Load::of(10);

const SLICE_SECONDS: usize = 10;

/// They tell what it has come to.
const LAST_SECONDS: usize = 60;

/// Publishers wait while more than that are waiting.
const MOST_WAITING: usize = 10_000;

/// The same for all clusters, as they are up at the same time.
const CONFIG: &str = "shared_buffers = '256MB'\n";

pub fn rows(names: &[&'static str], options: &Options) -> Vec<Row> {
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for &name in names {
        let clusters = [(); 2].map(|()| Cluster::start_with(&format!("{}{CONFIG}", crate::CONFIG)));
        let [clean, held] = &clusters;
        let mut arms = [
            Arm::new(super::sql_peer(clean, name), false),
            Arm::new(super::sql_peer(held, name), true),
        ];
        let slices = (options.held_seconds / SLICE_SECONDS).max(1);
        for slice in 1..=slices {
            eprintln!("{name}: slice {slice} of {slices}");
            arms.iter_mut().for_each(Arm::slice);
            // A B B A
            arms.reverse();
        }
        arms.sort_by_key(|arm| arm.holder.is_some());
        let [clean, held] = &mut arms;
        rows.extend(rows_of(name, clean, held));
        lines.push(clean.line(false));
        lines.push(held.line(true));
        drop(arms);
        clusters.iter().for_each(|cluster| cluster.stop(Stop::Fast));
    }
    if options.takes_long() {
        let title = "Full cycle in batches of 10 under a held snapshot";
        plot::lines(
            "horizon.svg",
            title,
            ("seconds", "messages per second"),
            (false, true),
            &lines,
        );
    }
    rows
}

fn rows_of(name: &str, clean: &mut Arm, held: &mut Arm) -> [Row; 3] {
    let seconds = held.series.len();
    let last = seconds.min(LAST_SECONDS);
    let end = |arm: &Arm| mean(&arm.series[seconds - last..]);
    let (of, to) = (end(held), end(clean));
    let detail = format!(
        "{of:.0}/s to {to:.0}/s; the whole time {:.0}/s to {:.0}/s",
        mean(&held.series),
        mean(&clean.series),
    );
    let what = format!("{name}: held for {seconds} s, the last {last} s, to clean");
    let row = Row::new(what, of / to).detail(detail);
    let row = if name == SEQUIN { row.at_least(0.9) } else { row };
    let dead = |what: &str, arm: &mut Arm| {
        let acked = arm.acked.load(Relaxed);
        let rows = arm.dead_rows() as f64;
        Row::new(
            format!("{name}: dead rows that VACUUM leaves at the end, {what}, for a message"),
            rows / acked as f64,
        )
        .detail(format!("{rows:.0} of {acked} messages"))
    };
    [row, dead("held", held), dead("clean", clean)]
}

struct Arm<'a> {
    sql: Sql<'a>,
    holder: Option<Client>,
    published: AtomicUsize,
    acked: AtomicUsize,
    /// Messages acked in each second.
    series: Vec<f64>,
}

impl<'a> Arm<'a> {
    fn new(sql: Sql<'a>, is_held: bool) -> Self {
        sql.empty(&LOAD);
        let holder = is_held.then(|| {
            let mut holder = sql.database.connect();
            let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
            holder.batch_execute(hold).unwrap();
            holder
        });
        let (published, acked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { sql, holder, published, acked, series: Vec::new() }
    }

    fn slice(&mut self) {
        let publishers = (0..LOAD.publishers)
            .map(|_| self.sql.queue.publisher(self.sql.database.connect(), &LOAD));
        let publishers: Vec<_> = publishers.collect();
        let workers = self.sql.workers(&LOAD);
        let start = Barrier::new(publishers.len() + workers.len() + 1);
        let over = AtomicBool::new(false);
        let (published, acked) = (&self.published, &self.acked);
        let mut series = Vec::new();
        thread::scope(|scope| {
            let (start, over) = (&start, &over);
            for mut publisher in publishers {
                scope.spawn(move || {
                    start.wait();
                    while !over.load(Relaxed) {
                        if published.load(Relaxed) > acked.load(Relaxed) + MOST_WAITING {
                            thread::sleep(Duration::from_millis(1));
                            continue;
                        }
                        publisher.publish(&message::draw(LOAD.batch, LOAD.bytes));
                        published.fetch_add(LOAD.batch, Relaxed);
                    }
                });
            }
            for (_, mut worker) in workers {
                scope.spawn(move || {
                    start.wait();
                    while !over.load(Relaxed) {
                        acked.fetch_add(worker.receive_and_ack(&mut |_| ()), Relaxed);
                    }
                });
            }
            start.wait();
            let (begun, mut before) = (Instant::now(), acked.load(Relaxed));
            for second in 1..=SLICE_SECONDS {
                let due = begun + Duration::from_secs(second as u64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let now = acked.load(Relaxed);
                series.push((now - before) as f64);
                before = now;
            }
            over.store(true, Relaxed);
        });
        self.series.extend(series);
    }

    /// VACUUM has counted them itself.
    fn dead_rows(&mut self) -> i64 {
        let mut client = self.sql.database.connect();
        client.batch_execute("VACUUM").unwrap();
        let query = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
                     WHERE schemaname LIKE $1";
        client.query_one(query, &[&self.sql.queue.schemas()]).unwrap().get(0)
    }

    fn line(&self, is_dashed: bool) -> Line {
        let arm = if self.holder.is_some() { "held" } else { "clean" };
        let points = self.series.iter().enumerate();
        Line {
            name: format!("{}, {arm}", self.sql.name()),
            group: self.sql.name(),
            // A logarithm has no 0.
            points: points.map(|(second, figure)| (second as f64, figure.max(1.0))).collect(),
            is_dashed,
        }
    }
}
