//! Point 9: what a receive costs does not grow with what waits, is in flight, or is missing.
//!
//! Each state has a database, and so a dispatcher, of its own: the others have no part in what it costs.

mod prepare;
mod worker;

use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::load::CLIENTS;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{mean, median, ratio};
use sequin_testkit::cluster::{Cluster, Database};
use worker::{Sample, Worker};

const BATCH: usize = 10;

/// A round is so many turns of each state: of so many receives by a client that is alone, then for some time of
/// several clients.
const TURNS: u32 = 8;
const CYCLES: usize = 50;

/// What a stream and its consumer are like while they are measured.
struct State {
    name: &'static str,
    what: &'static str,
    waiting: usize,
    in_flight: usize,
    holes: usize,
}

const ORDINARY: State =
    State { name: "ordinary", what: "", waiting: 1_000, in_flight: 10, holes: 0 };

const STATES: [State; 4] = [
    ORDINARY,
    State { name: "waiting", what: "1,000,000 waiting", waiting: 1_000_000, ..ORDINARY },
    State { name: "in_flight", what: "10,000 in flight", in_flight: 10_000, ..ORDINARY },
    State { name: "holes", what: "100,000 holes", holes: 100_000, ..ORDINARY },
];

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let databases =
        STATES.each_ref().map(|state| cluster.database(&format!("bench_{}", state.name)));
    let mut sides: Vec<Side> =
        STATES.iter().zip(&databases).map(|(state, database)| Side::new(state, database)).collect();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let mut samples: Vec<_> = sides.iter().map(|_| (Vec::new(), Vec::new())).collect();
        for _ in 0..TURNS {
            for (side, (alone, with_others)) in sides.iter_mut().zip(&mut samples) {
                alone.extend(side.turn_alone());
                with_others.extend(side.turn_with_others(options.duration() / TURNS));
            }
        }
        for (side, (alone, with_others)) in sides.iter_mut().zip(&samples) {
            side.alone.add(alone);
            side.with_others.add(with_others);
        }
    }
    let (ordinary, others) = sides.split_first().unwrap();
    others.iter().flat_map(|side| side.rows(ordinary)).collect()
}

/// A state, and what was measured in it.
struct Side<'a> {
    state: &'static State,
    database: &'a Database<'a>,
    worker: Worker,
    /// The publisher that is open all the time, if there is one.
    _open: Option<Client>,
    alone: Series,
    with_others: Series,
}

/// One value for each round, in milliseconds.
#[derive(Default)]
struct Series {
    receive: Vec<f64>,
    cycle: Vec<f64>,
}

impl Series {
    /// A receive by the median. A cycle by the mean, so that it has its part of what happens once a second.
    fn add(&mut self, samples: &[Sample]) {
        let of = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
        self.receive.push(median(&of(|sample| sample.receive)));
        self.cycle.push(mean(&of(|sample| sample.cycle)));
    }
}

impl<'a> Side<'a> {
    fn new(state: &'static State, database: &'a Database<'a>) -> Self {
        eprintln!("preparing the state: {}", state.name);
        let open = prepare::prepare(state, &mut database.connect(), || database.connect());
        Self {
            state,
            database,
            worker: Worker::new(database.connect()),
            _open: open,
            alone: Series::default(),
            with_others: Series::default(),
        }
    }

    /// One client that receives and acks; what it has taken is published again at the end.
    fn turn_alone(&mut self) -> Vec<Sample> {
        let samples = (0..CYCLES).map(|_| self.worker.receive_and_ack()).collect();
        self.worker.publish(CYCLES * BATCH);
        prepare::check(self.state, &mut self.worker.client);
        samples
    }

    /// Clients that publish, receive and ack, so that as much waits all the time.
    fn turn_with_others(&mut self, duration: Duration) -> Vec<Sample> {
        let mut workers: Vec<Worker> =
            (0..CLIENTS).map(|_| Worker::new(self.database.connect())).collect();
        thread::scope(|scope| {
            let run = |worker: &'_ mut Worker| worker.publish_receive_and_ack(duration);
            let running: Vec<_> =
                workers.iter_mut().map(|worker| scope.spawn(move || run(worker))).collect();
            running.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    }

    fn rows(&self, ordinary: &Side) -> Vec<Row> {
        let row = |what: &str, of: &[f64], to: &[f64]| {
            let detail = format!("{:.3} ms to {:.3} ms", median(of), median(to));
            Row::new(format!("{}: {what}", self.state.what), ratio(of, to)).detail(detail)
        };
        let (alone, others) = (&self.alone, &self.with_others);
        let (o_alone, o_others) = (&ordinary.alone, &ordinary.with_others);
        vec![
            row("receive", &alone.receive, &o_alone.receive).at_most(1.3),
            row("receive + ack, mean", &alone.cycle, &o_alone.cycle),
            row("receive, 4 publish and receive", &others.receive, &o_others.receive).at_most(1.3),
            row("publish + receive + ack, 4 clients, mean", &others.cycle, &o_others.cycle),
        ]
    }
}
