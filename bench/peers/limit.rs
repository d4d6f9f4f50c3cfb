//! The least that PostgreSQL has to do for the same: an INSERT of messages, a SELECT of a range of them, an INSERT that
//! says so, each a transaction. No queue at all: workers divide the seqs among themselves in this process, and nobody looks
//! after those who don't come back. What costs more than that, is what a queue costs.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use postgres::{Client, Statement};

use super::keyed::KeyedPublisher;
use super::message::{Json, Message};
use super::peer::Load;
use super::sql::{Publisher, Queue, Worker};

pub struct Limit;

pub const NAME: &str = "plain SQL";

const MOST_CONSUMERS: usize = 10;

/// The next seq of each consumer that no worker has taken.
static NEXT: [AtomicI64; MOST_CONSUMERS] = [const { AtomicI64::new(1) }; _];

/// How long a worker sleeps that is ahead of the publishers.
const POLL: Duration = Duration::from_micros(200);

impl Queue for Limit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schemas(&self) -> &'static str {
        "plain"
    }

    fn create(&self, client: &mut Client, _: &Load) {
        let create = "DROP SCHEMA IF EXISTS plain CASCADE; CREATE SCHEMA plain;
                      CREATE TABLE plain.messages (
                          seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                          key text COLLATE \"C\" NOT NULL,
                          data jsonb NOT NULL,
                          headers jsonb,
                          inserted_at timestamptz NOT NULL DEFAULT clock_timestamp()
                      );
                      CREATE TABLE plain.acks (
                          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                          consumer integer NOT NULL,
                          seqs bigint[] NOT NULL
                      )";
        client.batch_execute(create).unwrap();
        NEXT.iter().for_each(|next| next.store(1, Relaxed));
    }

    fn publisher(&self, client: Client, _: &Load) -> Box<dyn Publisher> {
        let insert = |values| format!("INSERT INTO plain.messages (key, data) {values}");
        let one = insert("VALUES ($1, $2) RETURNING seq");
        let many = insert("SELECT * FROM unnest($1::text[], $2::jsonb[]) RETURNING seq");
        Box::new(KeyedPublisher::new(client, &one, &many))
    }

    fn worker(&self, mut client: Client, load: &Load, consumer: usize) -> Box<dyn Worker> {
        let select = "SELECT * FROM plain.messages WHERE seq >= $1 AND seq < $2 ORDER BY seq";
        let select = client.prepare(select).unwrap();
        let ack = format!("INSERT INTO plain.acks (consumer, seqs) VALUES ({consumer}, $1)");
        let ack = client.prepare(&ack).unwrap();
        let batch = load.batch;
        Box::new(LimitWorker { client, select, ack, batch, consumer, taken: None })
    }
}

struct LimitWorker {
    client: Client,
    select: Statement,
    ack: Statement,
    batch: usize,
    consumer: usize,
    /// The first seq of the batch that is its own, and hasn't been there as a whole yet.
    taken: Option<i64>,
}

impl Worker for LimitWorker {
    fn receive_and_ack(&mut self, seen: &mut dyn FnMut(Message)) -> usize {
        let batch = self.batch as i64;
        let next = &NEXT[self.consumer - 1];
        let first = *self.taken.get_or_insert_with(|| next.fetch_add(batch, Relaxed));
        let rows = self.client.query(&self.select, &[&first, &(first + batch)]).unwrap();
        if rows.len() < self.batch {
            thread::sleep(POLL);
            return 0;
        }
        for row in &rows {
            seen(Message { key: row.get("key"), data: row.get::<_, Json>("data").0 });
        }
        let seqs: Vec<i64> = rows.iter().map(|row| row.get("seq")).collect();
        self.client.execute(&self.ack, &[&seqs]).unwrap();
        self.taken = None;
        rows.len()
    }
}
