//! Point 7: how long after the publisher's commit a waiting receiver has the message. The same for a table's change.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::messages::{PAYLOAD, create_stream};
use crate::options::Options;
use crate::report::Row;
use crate::sample::percentile;
use sequin_testkit::cluster::{Cluster, Database};

const SAMPLES: usize = 2_000;

/// How long the receiver has waited when the next message is published, at the least.
const PAUSE: Duration = Duration::from_millis(1);

/// Clusters all have the same port; an address of its own keeps this one from others' way.
pub fn loopback_address() -> String {
    let [.., a, b, c] = std::process::id().to_be_bytes();
    format!("127.{}.{b}.{}", a % 128 + 1, c.max(1))
}

/// One message's moments: the publisher's, and the receiver's.
pub struct Sample {
    commit_sent: Instant,
    commit_returned: Instant,
    received: Instant,
}

pub fn rows(cluster: &Cluster, _: &Options) -> Vec<Row> {
    let database = cluster.database("bench_latency");
    create_stream(&mut database.connect(), "stream", &["consumer".into()], "");
    let publish = |n| format!("SELECT sequin.publish('stream', 'orders.{n}', '{PAYLOAD}')");
    let samples = samples(|| connect(&database), publish);
    let [median, p99, sent_median, sent_p99] = figures(&samples);
    vec![median.below(2.0), p99.below(20.0), sent_median, sent_p99]
}

/// The moments of messages that statements make, one by one, while consumer `consumer` waits for each.
pub fn samples(connect: impl Fn() -> Client, statement: impl Fn(usize) -> String) -> Vec<Sample> {
    let (tell, told) = channel();
    let receiver = connect();
    let mut publisher = connect();
    thread::scope(|scope| {
        scope.spawn(move || receive(receiver, tell));
        (0..SAMPLES).map(|n| publish(&mut publisher, &statement(n), &told)).collect()
    })
}

/// From the return of the commit, and from its sending: the median and the 99th percentile of each.
pub fn figures(samples: &[Sample]) -> [Row; 4] {
    let millis = |from: fn(&Sample) -> Instant| -> Vec<f64> {
        // The row may be there before the publisher has heard of its commit: that is 0.
        let taken = |s: &Sample| s.received.saturating_duration_since(from(s)).as_secs_f64() * 1e3;
        samples.iter().map(taken).collect()
    };
    let row = |what: &str, of: &[f64], part: f64| {
        let detail = format!("{SAMPLES} messages, max {:.2} ms", percentile(of, 1.0));
        Row::new(what, percentile(of, part)).unit(" ms").detail(detail)
    };
    let returned = millis(|sample| sample.commit_returned);
    let sent = millis(|sample| sample.commit_sent);
    [
        row("commit returned to row received, median", &returned, 0.5),
        row("commit returned to row received, p99", &returned, 0.99),
        row("commit sent to row received, median", &sent, 0.5),
        row("commit sent to row received, p99", &sent, 0.99),
    ]
}

fn connect(database: &Database) -> Client {
    let (address, name) = (loopback_address(), &database.name);
    Client::connect(&format!("host={address} user=postgres dbname={name}"), NoTls).unwrap()
}

enum Event {
    /// About to wait.
    Ready,
    Got(Instant),
}

fn publish(client: &mut Client, statement: &str, told: &Receiver<Event>) -> Sample {
    assert!(matches!(told.recv().unwrap(), Event::Ready));
    // Not always at the same phase of whatever else happens regularly.
    thread::sleep(PAUSE + PAUSE.mul_f64(fastrand::f64()));
    client.batch_execute(&format!("BEGIN; {statement}")).unwrap();
    let commit_sent = Instant::now();
    client.batch_execute("COMMIT").unwrap();
    let commit_returned = Instant::now();
    let Event::Got(received) = told.recv().unwrap() else { panic!("nothing received") };
    Sample { commit_sent, commit_returned, received }
}

fn receive(mut client: Client, tell: Sender<Event>) {
    let receive = "SELECT * FROM sequin.receive('consumer', 10, '10 s')";
    let receive = client.prepare(receive).unwrap();
    let ack = client.prepare("SELECT sequin.ack('consumer', $1)").unwrap();
    for _ in 0..SAMPLES {
        tell.send(Event::Ready).unwrap();
        let rows = client.query(&receive, &[]).unwrap();
        let received = Instant::now();
        assert_eq!(rows.len(), 1);
        tell.send(Event::Got(received)).unwrap();
        let ack_ids: Vec<i64> = vec![rows[0].get("ack_id")];
        client.execute(&ack, &[&ack_ids]).unwrap();
    }
}
