//! PgQ: each consumer is a subscription of one queue, with one process that takes batch after batch.
//!
//! What a batch is, ticks say: a consumer gets all events between two of them. pgqd, which makes them, looks once a
//! second, and makes one after 500 events or 3 s; here somebody looks every few milliseconds, and makes one every
//! time. Its tables are rotated after two hours, so no figure here needs its maintenance.

use std::io::Write;
use std::thread;
use std::time::Duration;

use postgres::{Client, Statement};

use super::message::Message;
use super::peer::Load;
use super::sql::{Publisher, Queue, Worker};

pub struct Pgq;

pub const NAME: &str = "PgQ";

const QUEUE: &str = "messages";

/// From so many events on, COPY into the current table is faster than calls of insert_event.
const COPY_FROM: usize = 100;

/// How often somebody looks whether it's time for a tick, and a consumer without a batch whether there is one. More
/// often only makes more batches, each with its own transactions.
const POLL: Duration = Duration::from_millis(10);
const EAGER_POLL: Duration = Duration::from_millis(5);

/// A consumer without a batch asks again until then.
const PATIENCE: Duration = Duration::from_secs(1);

impl Queue for Pgq {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schemas(&self) -> &'static str {
        "pgq"
    }

    fn create(&self, client: &mut Client, load: &Load) {
        client.batch_execute("SELECT pgq.drop_queue(queue_name, true) FROM pgq.queue").unwrap();
        client.batch_execute(&format!("SELECT pgq.create_queue('{QUEUE}')")).unwrap();
        // The last one: a tick that came between an event's number and its commit is followed by another one at once.
        let settings =
            [("ticker_max_lag", "0"), ("ticker_max_count", "1"), ("ticker_idle_period", "0")];
        for (name, value) in settings {
            let set = format!("SELECT pgq.set_queue_config('{QUEUE}', '{name}', '{value}')");
            client.batch_execute(&set).unwrap();
        }
        for n in 1..=load.consumers {
            let register = format!("SELECT pgq.register_consumer('{QUEUE}', 'consumer_{n}')");
            client.batch_execute(&register).unwrap();
        }
    }

    fn publisher(&self, mut client: Client, _: &Load) -> Box<dyn Publisher> {
        let insert = |arguments: &str| {
            format!("SELECT pgq.insert_event('{QUEUE}', 'order', {arguments}, NULL, NULL, NULL)")
        };
        let one = client.prepare(&insert("$2::text, $1::text")).unwrap();
        let many = insert("data, key") + " FROM unnest($1::text[], $2::text[]) m (key, data)";
        let many = client.prepare(&many).unwrap();
        let table = format!("SELECT pgq.current_event_table('{QUEUE}')");
        let table = client.prepare(&table).unwrap();
        Box::new(PgqPublisher { client, one, many, table })
    }

    fn worker(&self, mut client: Client, load: &Load, consumer: usize) -> Box<dyn Worker> {
        let next = format!("SELECT pgq.next_batch('{QUEUE}', 'consumer_{consumer}')");
        let next = client.prepare(&next).unwrap();
        let events = client.prepare("SELECT * FROM pgq.get_batch_events($1)").unwrap();
        let finish = client.prepare("SELECT pgq.finish_batch($1)").unwrap();
        Box::new(PgqWorker { client, next, events, finish, poll: poll(load) })
    }

    /// That's how a subscription is meant: whoever asks for its batch gets the same one.
    fn workers(&self, _: usize) -> usize {
        1
    }

    fn attendant(&self, mut client: Client, load: &Load) -> Option<Box<dyn FnMut() + Send>> {
        let tick = client.prepare(&format!("SELECT pgq.ticker('{QUEUE}')")).unwrap();
        let poll = poll(load);
        Some(Box::new(move || {
            client.query(&tick, &[]).unwrap();
            thread::sleep(poll);
        }))
    }
}

fn poll(load: &Load) -> Duration {
    if load.eager { EAGER_POLL } else { POLL }
}

struct PgqPublisher {
    client: Client,
    one: Statement,
    many: Statement,
    table: Statement,
}

impl Publisher for PgqPublisher {
    fn publish(&mut self, messages: &[Message]) {
        match messages {
            [message] => {
                self.client.query(&self.one, &[&message.key, &message.data]).unwrap();
            }
            _ if messages.len() < COPY_FROM => {
                let (keys, data): (Vec<&str>, Vec<&str>) =
                    messages.iter().map(|message| (message.key, message.data)).unzip();
                self.client.query(&self.many, &[&keys, &data]).unwrap();
            }
            _ => self.copy(messages),
        }
    }
}

impl PgqPublisher {
    /// The table may be another one after the transaction.
    fn copy(&mut self, messages: &[Message]) {
        let mut transaction = self.client.transaction().unwrap();
        let table: String = transaction.query_one(&self.table, &[]).unwrap().get(0);
        let copy = format!("COPY {table} (ev_time, ev_type, ev_data, ev_extra1) FROM STDIN");
        let mut writer = transaction.copy_in(&copy).unwrap();
        let mut lines = Vec::new();
        for Message { key, data } in messages {
            debug_assert!(!data.contains(['\\', '\t', '\n']), "needs no escapes");
            writeln!(lines, "now\torder\t{data}\t{key}").unwrap();
        }
        writer.write_all(&lines).unwrap();
        writer.finish().unwrap();
        transaction.commit().unwrap();
    }
}

struct PgqWorker {
    client: Client,
    next: Statement,
    events: Statement,
    finish: Statement,
    poll: Duration,
}

impl Worker for PgqWorker {
    fn receive_and_ack(&mut self, seen: &mut dyn FnMut(Message)) -> usize {
        let mut waited = Duration::ZERO;
        let batch = loop {
            let row = self.client.query_one(&self.next, &[]).unwrap();
            if let Some(batch) = row.get::<_, Option<i64>>(0) {
                break batch;
            }
            if waited >= PATIENCE {
                return 0;
            }
            thread::sleep(self.poll);
            waited += self.poll;
        };
        let rows = self.client.query(&self.events, &[&batch]).unwrap();
        for row in &rows {
            seen(Message { key: row.get("ev_extra1"), data: row.get("ev_data") });
        }
        self.client.query_one(&self.finish, &[&batch]).unwrap();
        rows.len()
    }
}
