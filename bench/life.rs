//! What the kinds of publishing cost that do more than insert, against publishing.

use std::collections::HashMap;

use crate::load;
use crate::messages;
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};
use sequin_testkit::cluster::{Cluster, Database};

const BATCHES: [usize; 3] = [1, 10, 100];

const STREAM: &str = "life";

/// What publish() with a dedup_id has to reach.
const ONCE_REQUIRED: f64 = 0.6;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Publish,
    /// With a new dedup_id for each message.
    PublishOnce,
    /// To a stream with one message per key, of 100,000 keys.
    Upsert,
}
use Job::{Publish, PublishOnce, Upsert};

/// What is to be compared stands side by side.
const JOBS: [Job; 3] = [PublishOnce, Publish, Upsert];

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let database = cluster.database("bench_life");
    let mut jobs: Vec<(Job, usize)> =
        BATCHES.iter().flat_map(|&batch| JOBS.map(|job| (job, batch))).collect();
    let mut figures: HashMap<(Job, usize), Vec<f64>> = HashMap::new();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for &(job, batch) in &jobs {
            let figure = publish(&database, job, batch, options);
            figures.entry((job, batch)).or_default().push(figure);
        }
        // A B B A: what a job leaves behind for the next is not always the same one's.
        jobs.reverse();
    }
    let row = |what: String, job: Job, batch: usize| {
        let (of, to) = (&figures[&(job, batch)], &figures[&(Publish, batch)]);
        let detail = format!("{:.0}/s of {:.0}/s", median(of), median(to));
        Row::new(what, ratio(of, to)).detail(detail)
    };
    let once = BATCHES.map(|batch| {
        let what = format!("publish with a dedup_id, batch {batch}, to without");
        let row = row(what, PublishOnce, batch);
        if batch == 1 { row.at_least(ONCE_REQUIRED) } else { row }
    });
    let upsert = BATCHES.map(|batch| {
        row(format!("publish with one message per key, batch {batch}, to all"), Upsert, batch)
    });
    once.into_iter().chain(upsert).collect()
}

/// Messages per second, into a stream that is new and then dropped.
fn publish(database: &Database, job: Job, batch: usize, options: &Options) -> f64 {
    let mut client = database.connect();
    let one_per_key = job == Upsert;
    let create =
        format!("SELECT sequin.create_stream('{STREAM}', one_message_per_key => {one_per_key})");
    client.batch_execute(&create).unwrap();
    client.batch_execute("CHECKPOINT").unwrap();
    let script = match job {
        PublishOnce => messages::publish_once_script(STREAM, batch),
        Publish | Upsert => messages::publish_script(STREAM, batch),
    };
    let done = load::run(database, &script, options.duration());
    client.batch_execute(&format!("SELECT sequin.drop_stream('{STREAM}')")).unwrap();
    done.per_second() * batch as f64
}
