//! A history: what the clients of a run saw, call by call, and what was in the tables at its end. It says nothing
//! about how the server came to it.

use std::fmt::Write;
use std::time::Duration;

/// Since the run began.
pub type Time = Duration;

pub const NEVER: Time = Time::MAX;

/// Whether a call took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Yes,
    No,
    /// The connection broke before the answer came.
    Perhaps,
}

#[derive(Debug, Default)]
pub struct History {
    pub consumers: Vec<Consumer>,
    pub publishes: Vec<Publish>,
    pub receives: Vec<Receive>,
    pub faults: Vec<Fault>,
    pub errors: Vec<Failure>,
    pub end: End,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub name: &'static str,
    pub ordered: bool,
    /// The messages whose key begins with this are the consumer's.
    pub prefix: &'static str,
    pub max_ack_pending: usize,
    pub max_deliver: Option<i32>,
    pub ack_wait: Duration,
    /// The longest that a message waits for its redelivery, where nobody asked for a delay.
    pub backoff: Duration,
}

/// Messages that become visible together, or not at all.
#[allow(dead_code)] // Some of it is for who reads a history.
#[derive(Debug)]
pub struct Publish {
    pub how: &'static str,
    pub called: Time,
    pub returned: Time,
    pub committed: Effect,
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug)]
pub struct Message {
    /// Which one it is, among all of the run; it is the message's data.
    pub number: i64,
    pub key: String,
}

/// A call of `receive` that returned.
#[derive(Debug)]
pub struct Receive {
    /// Its index in the history's consumers.
    pub consumer: usize,
    pub called: Time,
    pub returned: Time,
    pub deliveries: Vec<Delivery>,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub ack_id: i64,
    pub seq: i64,
    pub key: String,
    pub number: i64,
    pub deliver_count: i32,
    /// From the return of `receive` to here it is the worker's for certain, if no crash comes between.
    pub held_until: Time,
    /// From here on it neither is held nor waits for its redelivery, for certain; its key is free.
    pub free_after: Time,
    /// Whether it was acked or rejected, by a call within these times.
    pub finished: Effect,
    pub ending: Time,
    pub ended: Time,
    /// Whether the ack was refused though the worker held it.
    pub lost: bool,
}

#[allow(dead_code)] // Some of it is for who reads a history.
#[derive(Debug)]
pub struct Fault {
    pub what: String,
    pub begun: Time,
    pub ended: Time,
    /// Whether it may have cost the last moments of the dispatcher's journal.
    pub crash: bool,
}

/// A call that failed.
#[allow(dead_code)] // Some of it is for who reads a history.
#[derive(Debug)]
pub struct Failure {
    pub at: Time,
    pub what: &'static str,
    /// None where the connection broke.
    pub sqlstate: Option<String>,
    pub message: String,
}

/// What was in the tables after all.
#[derive(Debug, Default)]
pub struct End {
    /// The stream's messages, by seq.
    pub stored: Vec<(i64, Message)>,
    /// Dead letters: consumer and seq.
    pub dead: Vec<(usize, i64)>,
    /// What workers wrote in the transaction that acked: consumer and seq.
    pub effects: Vec<(usize, i64)>,
}

impl History {
    /// All of it, a line for each event.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |event: &dyn std::fmt::Debug| writeln!(text, "{event:?}").unwrap();
        self.consumers.iter().for_each(|event| line(event));
        self.faults.iter().for_each(|event| line(event));
        self.errors.iter().for_each(|event| line(event));
        self.publishes.iter().for_each(|event| line(event));
        self.receives.iter().for_each(|event| line(event));
        line(&self.end);
        text
    }
}
