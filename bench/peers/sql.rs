//! Peers that are functions in the database: each client is a thread with a connection and prepared statements.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use super::message::{self, Message};
use super::peer::{Done, Latency, Load, Ordered, Peer, Work};
use sequin_testkit::cluster::Database;

/// Far longer than a run takes.
const DEADLINE: Duration = Duration::from_secs(300);

pub trait Queue: Sync {
    fn name(&self) -> &'static str;

    /// The schemas of its tables, as LIKE has it.
    fn schemas(&self) -> &'static str;

    /// New and empty. Whatever was there before is gone.
    fn create(&self, client: &mut Client, load: &Load);

    fn publisher(&self, client: Client, load: &Load) -> Box<dyn Publisher>;

    /// One of a consumer's; consumers are numbered from 1.
    fn worker(&self, client: Client, load: &Load, consumer: usize) -> Box<dyn Worker>;

    /// How many workers a consumer can have of those that are wanted.
    fn workers(&self, wanted: usize) -> usize {
        wanted
    }

    /// What somebody must do again and again; it sleeps in between.
    fn attendant(&self, _: Client, _: &Load) -> Option<Box<dyn FnMut() + Send>> {
        None
    }
}

pub trait Publisher: Send {
    /// In one transaction.
    fn publish(&mut self, messages: &[Message]);
}

pub trait Worker: Send {
    /// Waits for messages, for a second at the most, shows them, then acks them. How many acks took effect.
    fn receive_and_ack(&mut self, seen: &mut dyn FnMut(Message)) -> usize;
}

pub struct Sql<'a> {
    pub queue: &'a dyn Queue,
    pub database: Database<'a>,
}

/// Who takes part in a run.
#[derive(Clone, Copy, Default)]
struct Parts {
    publish: bool,
    consume: bool,
    attend: bool,
    /// More may be acked than was asked for: there is more.
    endless: bool,
}

impl Sql<'_> {
    pub fn empty(&self, load: &Load) {
        let mut client = self.database.connect();
        self.queue.create(&mut client, load);
        client.batch_execute("CHECKPOINT").unwrap();
    }

    /// Of what can't be told from what an autovacuum finds a minute later.
    pub fn settle(&self) {
        self.database.connect().batch_execute("VACUUM ANALYZE").unwrap();
    }

    /// How many it has published.
    pub fn fill(&self, load: &Load, count: usize) -> Result<usize, String> {
        let load = load.filling();
        let parts = Parts { publish: true, attend: true, ..Parts::default() };
        let done = self.play(&load, load.whole(count), parts)?;
        self.settle();
        Ok(done.messages)
    }

    /// Messages acked in a second. What is taken is published again while the clock stands.
    pub fn consume_and_replace(&self, load: &Load, time: Duration) -> Result<f64, String> {
        /// At a time.
        const PORTION: usize = 8_000;
        let consume = Parts { consume: true, attend: true, endless: true, ..Parts::default() };
        let publish = Parts { publish: true, attend: true, ..Parts::default() };
        let (mut acked, mut published, mut seconds) = (0, 0, 0.0);
        let (mut counted, whole) = (0, load.whole(1));
        while seconds < time.as_secs_f64() {
            let (done, taken) = self.play_counting(load, PORTION, consume)?;
            (acked, counted, seconds) = (acked + taken, counted + PORTION, seconds + done.seconds);
            let missing = (acked - published) / whole * whole;
            published += self.play(load, missing, publish)?.messages;
        }
        Ok(counted as f64 / seconds)
    }

    pub fn workers(&self, load: &Load) -> Vec<(usize, Box<dyn Worker>)> {
        let each = self.queue.workers(load.workers);
        let worker = |consumer| self.queue.worker(self.database.connect(), load, consumer);
        let all = (1..=load.consumers).flat_map(|consumer| (0..each).map(move |_| consumer));
        all.map(|consumer| (consumer, worker(consumer))).collect()
    }

    /// Calls it until `over`.
    pub fn attend(&self, load: &Load, over: &AtomicBool) {
        let Some(mut attend) = self.queue.attendant(self.database.connect(), load) else {
            return;
        };
        while !over.load(Relaxed) {
            attend();
        }
    }

    /// The clock runs when all are connected and have prepared their statements, to the last ack, or if nobody
    /// receives to the last commit.
    fn play(&self, load: &Load, count: usize, parts: Parts) -> Result<Done, String> {
        self.play_counting(load, count, parts).map(|(done, _)| done)
    }

    /// And how many acks there were in all.
    fn play_counting(
        &self,
        load: &Load,
        count: usize,
        parts: Parts,
    ) -> Result<(Done, usize), String> {
        let publishers = if parts.publish { load.publishers } else { 0 };
        let publishers: Vec<_> =
            (0..publishers).map(|_| self.queue.publisher(self.database.connect(), load)).collect();
        let workers = if parts.consume { self.workers(load) } else { Vec::new() };
        let goals: Vec<Goal> = (0..load.consumers).map(|_| Goal::new(count)).collect();
        let start = Barrier::new(publishers.len() + workers.len() + 1);
        let over = AtomicBool::new(false);
        let (begun, published, acked) = thread::scope(|scope| {
            if parts.attend {
                scope.spawn(|| self.attend(load, &over));
            }
            let (start, goals) = (&start, &goals);
            let batches = count / load.batch / load.publishers;
            let publishing = publishers.into_iter().map(|mut publisher| {
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..batches {
                        publisher.publish(&message::draw(load.batch, load.bytes));
                    }
                    Instant::now()
                })
            });
            let publishing: Vec<_> = publishing.collect();
            let working = workers.into_iter().map(|(consumer, mut worker)| {
                scope.spawn(move || {
                    start.wait();
                    goals[consumer - 1].work(worker.as_mut(), &mut |_| ())
                })
            });
            let working: Vec<_> = working.collect();
            start.wait();
            let begun = Instant::now();
            let published = publishing.into_iter().map(|thread| thread.join().unwrap()).max();
            let acked = working.into_iter().filter_map(|thread| thread.join().unwrap()).max();
            over.store(true, Relaxed);
            (begun, published, acked)
        });
        if parts.consume && !parts.endless {
            goals.iter().try_for_each(Goal::check)?;
        }
        let end = acked.or(published).ok_or("nothing reached within the deadline")?;
        let acks = goals.iter().map(|goal| goal.acked.load(Relaxed)).sum();
        Ok((Done { messages: count, seconds: (end - begun).as_secs_f64() }, acks))
    }
}

/// What all the workers of a consumer have to reach together.
pub struct Goal {
    count: usize,
    acked: AtomicUsize,
    deadline: Instant,
}

impl Goal {
    pub fn new(count: usize) -> Self {
        Self { count, acked: AtomicUsize::new(0), deadline: Instant::now() + DEADLINE }
    }

    /// When it was reached, if this worker has reached it.
    pub fn work(&self, worker: &mut dyn Worker, seen: &mut dyn FnMut(Message)) -> Option<Instant> {
        while self.acked.load(Relaxed) < self.count && Instant::now() < self.deadline {
            let acked = worker.receive_and_ack(seen);
            let before = self.acked.fetch_add(acked, Relaxed);
            if before < self.count && before + acked >= self.count {
                return Some(Instant::now());
            }
        }
        None
    }

    pub fn check(&self) -> Result<(), String> {
        let acked = self.acked.load(Relaxed);
        if acked == self.count {
            return Ok(());
        }
        Err(format!("{acked} acked of {} messages", self.count))
    }
}

impl Peer for Sql<'_> {
    fn name(&self) -> &'static str {
        self.queue.name()
    }

    fn prepare(&mut self, work: Work, load: &Load, count: usize) -> Result<usize, String> {
        self.empty(load);
        match work {
            Work::Consume => self.fill(load, count),
            Work::Publish | Work::Cycle => Ok(load.whole(count)),
        }
    }

    fn perform(&mut self, work: Work, load: &Load, count: usize) -> Result<Done, String> {
        let parts = match work {
            Work::Publish => Parts { publish: true, ..Parts::default() },
            Work::Consume => Parts { consume: true, attend: true, ..Parts::default() },
            Work::Cycle => Parts { publish: true, consume: true, attend: true, endless: false },
        };
        self.play(load, count, parts)
    }

    fn latency(&mut self, load: &Load, rate: usize, time: Duration) -> Result<Latency, String> {
        self.empty(load);
        super::latency::of_sql(self, load, rate, time)
    }

    fn order(&mut self, load: &Load, keys: usize, count: usize) -> Result<Ordered, String> {
        self.empty(load);
        super::order::of_sql(self, load, keys, count)
    }

    fn disk(&self) -> i64 {
        let query = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
                     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE relkind = 'r' AND nspname LIKE $1";
        let mut client = self.database.connect();
        client.query_one(query, &[&self.queue.schemas()]).unwrap().get(0)
    }
}
