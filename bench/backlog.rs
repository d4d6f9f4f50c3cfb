//! A stream full of messages, and how fast they are received and acked.

use std::time::Duration;

use postgres::Client;

use crate::{load, messages};
use sequin_testkit::cluster::Database;

const STREAM: &str = "backlog";
const CONSUMER: &str = "reader";

pub struct Backlog<'a> {
    database: &'a Database<'a>,
    client: Client,
    count: usize,
}

impl<'a> Backlog<'a> {
    /// Of so many messages at first.
    pub fn create(database: &'a Database<'a>, count: usize) -> Self {
        let mut client = database.connect();
        messages::create_stream(&mut client, STREAM, &[CONSUMER.into()], "");
        let mut backlog = Self { database, client, count: 0 };
        backlog.grow(count);
        backlog
    }

    fn grow(&mut self, count: usize) {
        eprintln!("publishing {count} messages to be received");
        messages::publish(&mut self.client, STREAM, "orders", count);
        self.client.batch_execute("VACUUM ANALYZE").unwrap();
        self.count += count;
    }

    /// Messages acked in a second, from the beginning of the stream; taken again if the stream was too short.
    pub fn receive_and_ack(&mut self, batch: usize, duration: Duration) -> f64 {
        loop {
            if let Some(figure) = self.try_receive_and_ack(batch, duration) {
                return figure;
            }
            self.grow(self.count);
        }
    }

    /// Counted by the consumer: a receive that finds less than a batch, and an ack that comes too late, count as what
    /// they are. None if the receivers have run dry.
    fn try_receive_and_ack(&mut self, batch: usize, duration: Duration) -> Option<f64> {
        self.client.execute("SELECT sequin.rewind($1)", &[&CONSUMER]).unwrap();
        self.client.batch_execute("CHECKPOINT").unwrap();
        let before = stats(&mut self.client, CONSUMER).acked;
        let script = messages::receive_script(CONSUMER, batch, "0");
        let done = load::run(self.database, &script, duration);
        let after = stats(&mut self.client, CONSUMER);
        let acked = (after.acked - before) as f64;
        assert!(acked <= done.transactions * batch as f64, "more acked than received");
        (after.waiting > 0).then(|| acked / done.seconds)
    }
}

pub struct Stats {
    /// Loaded by the dispatcher, or still to be; messages that wait for others of their key are among them.
    pub waiting: i64,
    pub in_flight: i64,
    pub acked: i64,
}

pub fn stats(client: &mut Client, consumer: &str) -> Stats {
    let query = "SELECT ready + withheld + lag, in_flight, acked_total FROM sequin.consumer_stats
                 WHERE consumer = $1";
    let row = client.query_one(query, &[&consumer]).unwrap();
    Stats { waiting: row.get(0), in_flight: row.get(1), acked: row.get(2) }
}
