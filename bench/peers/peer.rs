//! What every peer can do, whatever it is driven by.

use std::time::Duration;

pub const SEQUIN: &str = "sequin";

/// How a peer is used.
#[derive(Clone, Copy)]
pub struct Load {
    /// Messages that a call publishes, and that a call receives at the most.
    pub batch: usize,
    /// Of a message's data.
    pub bytes: usize,
    /// Each gets every message: consumers of one stream, subscriptions, or as many queues.
    pub consumers: usize,
    pub publishers: usize,
    /// Of each consumer.
    pub workers: usize,
    /// Messages of a key are delivered in their order, and never at the same time.
    pub ordered: bool,
    /// Those who have no other way to learn of messages look for them all the time: latency is what counts.
    pub eager: bool,
}

/// 170 bytes, as all other figures of the bench.
pub const SMALL: usize = crate::messages::PAYLOAD.len();

pub const LARGE: usize = 8192;

impl Load {
    pub const fn of(batch: usize) -> Self {
        Self {
            batch,
            bytes: SMALL,
            consumers: 1,
            publishers: crate::load::CLIENTS,
            workers: crate::load::CLIENTS,
            ordered: false,
            eager: false,
        }
    }

    pub const fn large(self) -> Self {
        Self { bytes: LARGE, ..self }
    }

    pub const fn consumers(self, consumers: usize) -> Self {
        Self { consumers, ..self }
    }

    /// The same, as what is published before the clock runs is published.
    pub const fn filling(self) -> Self {
        Self { batch: 1_000, ..self }
    }

    /// So many messages that every publisher has whole batches, and the same number of them.
    pub fn whole(&self, count: usize) -> usize {
        count.max(1).next_multiple_of(self.publishers * self.batch)
    }

    pub fn name(&self) -> String {
        let bytes = if self.bytes == SMALL { "" } else { ", 8 kB" };
        let consumers = match self.consumers {
            1 => String::new(),
            consumers => format!(", {consumers} consumers"),
        };
        format!("batch {}{consumers}{bytes}", self.batch)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Publish,
    /// Receive and ack what has been published before.
    Consume,
    /// All of it at the same time, until every consumer has acked everything.
    Cycle,
}

/// What a run came to.
#[derive(Clone, Copy)]
pub struct Done {
    /// Each counts once, whatever the number of consumers.
    pub messages: usize,
    pub seconds: f64,
}

impl Done {
    pub fn per_second(self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

/// How long after the beginning of their publishing messages were there.
pub struct Latency {
    pub millis: Vec<f64>,
    /// Messages published in a second.
    pub rate: f64,
}

/// A run in which order was looked at.
pub struct Ordered {
    pub done: Done,
    /// Messages that came before an earlier one of their key had been acked.
    /// Not known of libraries, whose handlers only count.
    pub broken: Option<usize>,
}

/// An error is a sentence for the report: one peer's failure doesn't end the others' figures.
pub trait Peer {
    fn name(&self) -> &'static str;

    /// Queues that are new or empty, with messages in them if they are only to be consumed. How many messages it will
    /// be: at least `count`.
    fn prepare(&mut self, work: Work, load: &Load, count: usize) -> Result<usize, String>;

    /// What has been prepared.
    fn perform(&mut self, work: Work, load: &Load, count: usize) -> Result<Done, String>;

    fn run(&mut self, work: Work, load: &Load, count: usize) -> Result<Done, String> {
        let count = self.prepare(work, load, count)?;
        self.perform(work, load, count)
    }

    /// Messages published one by one, so many in a second, while workers wait.
    fn latency(&mut self, load: &Load, rate: usize, time: Duration) -> Result<Latency, String>;

    /// Receives and acks so many messages of so many keys that have been published before.
    fn order(&mut self, load: &Load, keys: usize, count: usize) -> Result<Ordered, String>;

    /// Bytes on disk of all its tables, with indexes and TOAST.
    fn disk(&self) -> i64;
}
