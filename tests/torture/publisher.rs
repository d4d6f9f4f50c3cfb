//! A client that publishes, in all the ways there are: single calls, arrays, INSERT, COPY, savepoints, rollbacks, and
//! transactions that stay open.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::{Client, Error, GenericClient, Transaction};

use super::history::{Effect, Message, Publish, Time};
use super::recorder::Recorder;
use crate::calls::{Calls, millis};

pub const STREAM: &str = "load";

/// Keys at a time. Few enough that messages wait for each other.
const KEYS: u32 = 100;

/// How long a set of keys is used. A checker compares all messages of a key with each other.
const KEY_AGE: Duration = Duration::from_secs(10);

/// How long a transaction may stay open.
const LONG: Duration = millis(2500);

pub struct Publisher<'a> {
    recorder: &'a Recorder,
    rng: Rng,
    /// Numbers are used once in a run: this publisher's are all above its first one.
    next: i64,
}

impl<'a> Publisher<'a> {
    pub fn new(recorder: &'a Recorder, rng: Rng, id: u64) -> Self {
        const NUMBERS: i64 = 1_000_000_000;
        Self { recorder, rng, next: id as i64 * NUMBERS }
    }

    /// Publishes something. An error: the connection is of no more use.
    pub fn step(&mut self, client: &mut Client) -> Result<(), Error> {
        match self.rng.u8(0..10) {
            0..5 => self.alone(client),
            5..9 => self.in_transaction(client, Duration::ZERO),
            _ => {
                let hold = LONG.mul_f32(self.rng.f32());
                self.in_transaction(client, hold)
            }
        }
    }

    /// A statement that is a transaction of its own.
    fn alone(&mut self, client: &mut Client) -> Result<(), Error> {
        let called = self.recorder.now();
        let (how, messages, result) = self.statement(client);
        let committed = match &result {
            Ok(()) => Effect::Yes,
            Err(error) => self.recorder.failure(how, error),
        };
        self.write_down(how, called, committed, messages);
        result
    }

    fn in_transaction(&mut self, client: &mut Client, hold: Duration) -> Result<(), Error> {
        let called = self.recorder.now();
        let (mut kept, mut undone) = (Vec::new(), Vec::new());
        let mut transaction = match client.transaction() {
            Ok(transaction) => transaction,
            Err(error) => {
                self.recorder.failure("BEGIN", &error);
                return Err(error);
            }
        };
        let filled = self.fill(&mut transaction, &mut kept, &mut undone);
        let (committed, result) = match filled {
            Err(error) => (Effect::No, Err(error)),
            Ok(()) => {
                thread::sleep(hold);
                self.finish(transaction)
            }
        };
        self.write_down("transaction", called, committed, kept);
        self.write_down("undone savepoint", called, Effect::No, undone);
        result
    }

    /// Some statements, some of them in savepoints of which some are undone.
    fn fill(
        &mut self,
        transaction: &mut Transaction,
        kept: &mut Vec<Message>,
        undone: &mut Vec<Message>,
    ) -> Result<(), Error> {
        for _ in 0..self.rng.u32(1..4) {
            let savepoint = self.rng.u8(0..3) == 0;
            let undo = savepoint && self.rng.bool();
            if savepoint {
                transaction.batch_execute("SAVEPOINT a").inspect_err(|error| {
                    self.recorder.failure("SAVEPOINT", error);
                })?;
            }
            let (how, messages, result) = self.statement(transaction);
            if undo { &mut *undone } else { &mut *kept }.extend(messages);
            let end = match (savepoint, undo) {
                (true, true) => "ROLLBACK TO a; RELEASE a",
                (true, false) => "RELEASE a",
                (false, _) => "",
            };
            result.and_then(|()| transaction.batch_execute(end)).inspect_err(|error| {
                self.recorder.failure(how, error);
            })?;
        }
        Ok(())
    }

    fn finish(&mut self, transaction: Transaction) -> (Effect, Result<(), Error>) {
        if self.rng.u8(0..4) == 0 {
            return (Effect::No, transaction.rollback());
        }
        match transaction.commit() {
            Ok(()) => (Effect::Yes, Ok(())),
            Err(error) => (self.recorder.failure("COMMIT", &error), Err(error)),
        }
    }

    fn write_down(
        &self,
        how: &'static str,
        called: Time,
        committed: Effect,
        messages: Vec<Message>,
    ) {
        let returned = self.recorder.now();
        self.recorder.publish(Publish { how, called, returned, committed, messages });
    }

    fn statement(
        &mut self,
        client: &mut impl GenericClient,
    ) -> (&'static str, Vec<Message>, Result<(), Error>) {
        let how = ["publish", "publish_many", "INSERT", "COPY"][self.rng.usize(0..4)];
        let count = if how == "publish" { 1 } else { self.rng.usize(1..20) };
        let messages: Vec<Message> = (0..count).map(|_| self.message()).collect();
        let result = match how {
            "publish" => {
                let Message { number, key } = &messages[0];
                client.try_publish(STREAM, key, &number.to_string()).map(drop)
            }
            "COPY" => copy(client, &messages),
            _ => insert(client, how, &messages),
        };
        (how, messages, result)
    }

    fn message(&mut self) -> Message {
        self.next += 1;
        let age = self.recorder.now().as_secs() / KEY_AGE.as_secs();
        let group = if self.rng.bool() { "a" } else { "b" };
        let key = format!("{group}.{age}.{}", self.rng.u32(0..KEYS / 2));
        Message { number: self.next, key }
    }
}

fn insert(client: &mut impl GenericClient, how: &str, messages: &[Message]) -> Result<(), Error> {
    let keys: Vec<&str> = messages.iter().map(|message| message.key.as_str()).collect();
    let data: Vec<String> = messages.iter().map(|message| message.number.to_string()).collect();
    let statement = match how {
        "INSERT" => format!(
            "INSERT INTO sequin_stream.{STREAM} (key, data)
             SELECT key, data::jsonb FROM unnest($1::text[], $2::text[]) m (key, data)"
        ),
        _ => format!(
            "SELECT count(*) FROM sequin.publish_many('{STREAM}', $1::text[], $2::text[]::jsonb[])"
        ),
    };
    client.execute(&statement, &[&keys, &data]).map(drop)
}

fn copy(client: &mut impl GenericClient, messages: &[Message]) -> Result<(), Error> {
    let rows: String = messages.iter().map(|m| format!("{}\t{}\n", m.key, m.number)).collect();
    client.try_copy(STREAM, &rows)
}
