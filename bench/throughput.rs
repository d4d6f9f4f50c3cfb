//! Point 8: publishing, and receiving with acks, against a plain INSERT of the same messages.

use std::collections::HashMap;

use crate::backlog::Backlog;
use crate::load::{self, Background};
use crate::messages::{self, create_plain_table, create_stream};
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};
use sequin_testkit::cluster::{Cluster, Database};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];

/// What publishing has to reach, by batch: rows are cheaper without the executor when there are many.
const PUBLISH_REQUIRED: [f64; 4] = [0.9, 0.9, 1.2, 1.2];

const STREAM: &str = "published";

/// The batch with which publishing is measured while consumers are drained.
const DRAINED_BATCH: usize = 10;

/// What four clients hardly receive and ack in a second, in batches of 100.
const BACKLOG_PER_SECOND: usize = 400_000;

/// What is measured: messages per second, once a round.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Insert,
    Publish {
        consumers: usize,
    },
    /// As many consumers, each drained by one worker meanwhile.
    PublishDrained {
        consumers: usize,
    },
    ReceiveAndAck,
}
use Job::{Insert, Publish, PublishDrained, ReceiveAndAck};

/// What is to be compared stands side by side.
const JOBS: [Job; 4] = [ReceiveAndAck, Insert, Publish { consumers: 1 }, Publish { consumers: 3 }];

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let database = cluster.database("bench_throughput");
    let mut backlog = Backlog::create(&database, BACKLOG_PER_SECOND * options.seconds as usize);
    let mut jobs: Vec<(Job, usize)> =
        BATCHES.iter().flat_map(|&batch| JOBS.map(|job| (job, batch))).collect();
    jobs.extend([1, 3].map(|consumers| (PublishDrained { consumers }, DRAINED_BATCH)));
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for &(job, batch) in &jobs {
            let figure = match job {
                ReceiveAndAck => backlog.receive_and_ack(batch, options.duration()),
                _ => write(&database, job, batch, options),
            };
            figures.0.entry((job, batch)).or_default().push(figure);
        }
        // A B B A: what a job leaves behind for the next is not always the same one's.
        jobs.reverse();
    }
    figures.rows()
}

/// Messages per second of a job that writes, into a table that is new and then dropped.
fn write(database: &Database, job: Job, batch: usize, options: &Options) -> f64 {
    let mut client = database.connect();
    let (consumers, are_drained) = match job {
        Publish { consumers } => (consumers, false),
        PublishDrained { consumers } => (consumers, true),
        Insert | ReceiveAndAck => (0, false),
    };
    let consumers: Vec<String> = (1..=consumers).map(|n| format!("consumer_{n}")).collect();
    let (script, drop_table) = if job == Insert {
        create_plain_table(&mut client);
        (messages::insert_script(batch), "DROP TABLE plain")
    } else {
        create_stream(&mut client, STREAM, &consumers, "");
        let drop_stream = "SELECT sequin.drop_stream('published', force => true)";
        (messages::publish_script(STREAM, batch), drop_stream)
    };
    client.batch_execute("CHECKPOINT").unwrap();
    let workers = are_drained.then(|| {
        let script = |consumer| messages::receive_script(consumer, 100, "1 s");
        Background::start(database, consumers.iter().map(|consumer| script(consumer)))
    });
    let done = load::run(database, &script, options.duration());
    drop(workers);
    client.batch_execute(drop_table).unwrap();
    done.per_second() * batch as f64
}

#[derive(Default)]
struct Figures(HashMap<(Job, usize), Vec<f64>>);

impl Figures {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (batch, required) in BATCHES.into_iter().zip(PUBLISH_REQUIRED) {
            let what = format!("publish, batch {batch}, to plain INSERT");
            rows.push(self.row(what, Publish { consumers: 1 }, Insert, batch).at_least(required));
        }
        for batch in BATCHES {
            let what = format!("receive + ack, batch {batch}, to plain INSERT");
            let row = self.row(what, ReceiveAndAck, Insert, batch);
            rows.push(match batch {
                10 => row.at_least(0.5),
                100 => row.at_least(1.0),
                _ => row,
            });
        }
        for batch in BATCHES {
            let what = format!("publish with three consumers, batch {batch}, to one");
            let (three, one) = (Publish { consumers: 3 }, Publish { consumers: 1 });
            rows.push(self.row(what, three, one, batch).at_least(0.9));
        }
        let what = format!(
            "publish while a worker drains the consumer, batch {DRAINED_BATCH}, to plain INSERT"
        );
        rows.push(self.row(what, PublishDrained { consumers: 1 }, Insert, DRAINED_BATCH));
        let what =
            format!("publish while workers drain three consumers, batch {DRAINED_BATCH}, to one");
        let (three, one) = (PublishDrained { consumers: 3 }, PublishDrained { consumers: 1 });
        rows.push(self.row(what, three, one, DRAINED_BATCH));
        rows
    }

    fn row(&self, what: String, of: Job, to: Job, batch: usize) -> Row {
        let (of, to) = (&self.0[&(of, batch)], &self.0[&(to, batch)]);
        let detail = format!("{:.0}/s of {:.0}/s", median(of), median(to));
        Row::new(what, ratio(of, to)).detail(detail)
    }
}
