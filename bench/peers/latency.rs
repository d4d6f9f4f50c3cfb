//! Latency from end to end: from the beginning of the call that publishes a message to its row at a waiting receiver.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{self, Message};
use super::peer::{Latency, Load, SEQUIN};
use super::plot::{self, Line};
use super::sql::Sql;
use super::{Peers, turns};
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, percentile};

/// Messages in a second, and for how many times the time of a figure: the 99th percentile of few says nothing.
const RATES: [(usize, u32); 3] = [(10, 4), (1_000, 1), (5_000, 1)];

/// Workers take what is there.
const LOAD: Load = Load { publishers: 1, eager: true, ..Load::of(100) };

/// A publisher that waits for each of its commits can't publish more in a second, whoever stores it.
const MOST_OF_A_PUBLISHER: usize = 1_250;

/// The name of the moment in a message, in nanoseconds.
const SENT: &str = "sent";

/// Until all workers wait.
const SETTLING: Duration = Duration::from_millis(100);

/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// A peer that is slower than that has not kept the rate.
const KEPT: f64 = 0.95;

pub fn rows(peers: &mut Peers, options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut figures: Vec<(&str, Vec<[f64; 3]>)> =
        peers.iter().map(|peer| (peer.name(), Vec::new())).collect();
    for (rate, times) in RATES {
        eprintln!("latency at {rate}/s");
        let time = turns::figure_time(options) * times;
        let taken = turns::take(peers, options, |peer, _| peer.latency(&LOAD, rate, time));
        for (peer, runs) in taken.0 {
            match runs {
                Ok(runs) => {
                    rows.extend(rows_of(peer, rate, &runs));
                    let of = figures.iter_mut().find(|(name, _)| *name == peer).unwrap();
                    let millis = all(&runs);
                    let [p50, p99] = [0.5, 0.99].map(|part| percentile(&millis, part));
                    of.1.push([rate as f64, p50, p99]);
                }
                Err(reason) => {
                    rows.push(Row::new(format!("{rate}/s: {peer}"), f64::NAN).detail(reason));
                }
            }
        }
    }
    if options.takes_long() {
        draw(&figures);
    }
    rows
}

/// Rates, and the median and 99th percentile at each.
fn draw(figures: &[(&'static str, Vec<[f64; 3]>)]) {
    let lines = figures.iter().flat_map(|(peer, figures)| {
        [("p50", 1, false), ("p99", 2, true)].map(|(name, column, is_dashed)| Line {
            name: format!("{peer}, {name}"),
            group: peer,
            points: figures.iter().map(|figure| (figure[0], figure[column])).collect(),
            is_dashed,
        })
    });
    let names = ("messages published per second", "milliseconds");
    let title = "From publishing a message to its receiver";
    plot::lines("latency.svg", title, names, (true, true), &lines.collect::<Vec<_>>());
}

fn all(runs: &[Latency]) -> Vec<f64> {
    runs.iter().flat_map(|run| run.millis.iter().copied()).collect()
}

fn rows_of(peer: &str, rate: usize, runs: &[Latency]) -> [Row; 3] {
    let millis = all(runs);
    let reached = median(&runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let reached = if reached < rate as f64 * KEPT {
        format!("reaches only {reached:.0}/s; ")
    } else {
        String::new()
    };
    let row = |what: &str, part: f64| {
        let detail = format!("{reached}{} messages", millis.len());
        Row::new(format!("{rate}/s: {peer}, {what}"), percentile(&millis, part))
            .unit(" ms")
            .detail(detail)
    };
    let p50 = row("p50", 0.5);
    let p50 = if peer == SEQUIN && rate == 1_000 { p50.below(1.0) } else { p50 };
    [p50, row("p99", 0.99), row("max", 1.0)]
}

/// A publisher that is late catches up. Its messages say when their publishing began.
pub fn of_sql(sql: &Sql, load: &Load, rate: usize, time: Duration) -> Result<Latency, String> {
    let publishers = rate.div_ceil(MOST_OF_A_PUBLISHER);
    let interval = Duration::from_secs_f64(publishers as f64 / rate as f64);
    let publishers: Vec<_> =
        (0..publishers).map(|_| sql.queue.publisher(sql.database.connect(), load)).collect();
    let workers = sql.workers(load);
    let (millis, received) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    // How many there are to come, once that is known.
    let published = AtomicUsize::new(usize::MAX);
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let now = || begun.elapsed().as_nanos() as u64;
    let deadline = begun + time + PATIENCE;
    let rate = thread::scope(|scope| {
        scope.spawn(|| sql.attend(load, &over));
        let working = workers.into_iter().map(|(_, mut worker)| {
            let (millis, received, published) = (&millis, &received, &published);
            let now = &now;
            scope.spawn(move || {
                let mut taken = Vec::new();
                let mut seen = |message: Message| {
                    taken.push((now() - message::number(SENT, message.data)) as f64 / 1e6);
                };
                while received.load(Relaxed) < published.load(Relaxed) && Instant::now() < deadline
                {
                    received.fetch_add(worker.receive_and_ack(&mut seen), Relaxed);
                }
                millis.lock().unwrap().extend(taken);
            })
        });
        let working: Vec<_> = working.collect();
        thread::sleep(SETTLING);
        let begun = Instant::now();
        let now = &now;
        let publishing = publishers.into_iter().map(|mut publisher| {
            scope.spawn(move || {
                let mut count = 0;
                while begun.elapsed() < time {
                    let due = begun + interval * count;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let key = message::draw(1, load.bytes)[0].key;
                    let data = message::numbered(SENT, now(), load.bytes);
                    publisher.publish(&[Message { key, data: &data }]);
                    count += 1;
                }
                count as usize
            })
        });
        let publishing: Vec<_> = publishing.collect();
        let count: usize = publishing.into_iter().map(|thread| thread.join().unwrap()).sum();
        published.store(count, Relaxed);
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        working.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, Relaxed);
        rate
    });
    let millis = millis.into_inner().unwrap();
    if received.load(Relaxed) != published.load(Relaxed) {
        return Err(format!("{} received of {}", received.load(Relaxed), published.load(Relaxed)));
    }
    Ok(Latency { millis, rate })
}
