//! pgmq: each consumer has a queue of its own, which gets its own copy of every message.
//!
//! One statement sends to all of them. `send_topic` and `send_batch_topic` do the same, but look up the queues for each
//! call; they are about as fast. Messages are deleted, not archived, which is the cheaper way.
//!
//! Who finds nothing sleeps and asks again. `read_with_poll` does the same in the server, but holds a snapshot all the
//! time, so that every reader goes through what has been deleted meanwhile: half as fast with 12 workers.

use std::thread;
use std::time::Duration;

use postgres::{Client, Statement};

use super::message::{Json, Message};
use super::peer::Load;
use super::sql::{Publisher, Queue, Worker};

pub struct Pgmq;

pub const NAME: &str = "pgmq";

/// How long a message is invisible once it has been read: its documentation's own example.
const VISIBILITY_SECONDS: i32 = 30;

/// How long a worker sleeps that has found nothing. The default of pgmq's own polling: less isn't faster where
/// throughput counts, as batches are smaller then.
const POLL: Duration = Duration::from_millis(100);

/// With four workers there is one that looks each millisecond. If all do, they keep the server from anything else.
const EAGER_POLL: Duration = Duration::from_millis(4);

impl Queue for Pgmq {
    fn name(&self) -> &'static str {
        NAME
    }

    fn schemas(&self) -> &'static str {
        "pgmq"
    }

    fn create(&self, client: &mut Client, load: &Load) {
        client.batch_execute("SELECT pgmq.drop_queue(queue_name) FROM pgmq.meta").unwrap();
        for n in 1..=load.consumers {
            client.batch_execute(&format!("SELECT pgmq.create('q{n}')")).unwrap();
            if load.ordered {
                client.batch_execute(&format!("SELECT pgmq.create_fifo_index('q{n}')")).unwrap();
            }
        }
    }

    fn publisher(&self, mut client: Client, load: &Load) -> Box<dyn Publisher> {
        let mut prepare = |function: &str, arguments: &str| {
            let send = |n| format!("SELECT pgmq.{function}('q{n}', {arguments})");
            let sends: Vec<String> = (1..=load.consumers).map(send).collect();
            client.prepare(&sends.join(" UNION ALL ")).unwrap()
        };
        let (one, many) = if load.ordered {
            (
                prepare("send", "$1::jsonb, $2::jsonb"),
                prepare("send_batch", "$1::jsonb[], $2::jsonb[]"),
            )
        } else {
            (prepare("send", "$1::jsonb"), prepare("send_batch", "$1::jsonb[]"))
        };
        Box::new(PgmqPublisher { client, one, many, ordered: load.ordered })
    }

    fn worker(&self, mut client: Client, load: &Load, consumer: usize) -> Box<dyn Worker> {
        let read = if load.ordered { "read_grouped" } else { "read" };
        let read = format!(
            "SELECT * FROM pgmq.{read}('q{consumer}', {VISIBILITY_SECONDS}, {})",
            load.batch
        );
        let (read, delete) = (
            client.prepare(&read).unwrap(),
            client.prepare(&format!("SELECT pgmq.delete('q{consumer}', $1::bigint[])")).unwrap(),
        );
        let poll = if load.eager { EAGER_POLL } else { POLL };
        Box::new(PgmqWorker { client, read, delete, ordered: load.ordered, poll })
    }
}

struct PgmqPublisher {
    client: Client,
    one: Statement,
    many: Statement,
    ordered: bool,
}

impl Publisher for PgmqPublisher {
    fn publish(&mut self, messages: &[Message]) {
        let data: Vec<Json> = messages.iter().map(|message| Json(message.data)).collect();
        let headers: Vec<String> = messages.iter().filter(|_| self.ordered).map(group).collect();
        let headers: Vec<Json> = headers.iter().map(|header| Json(header)).collect();
        let sent = match (data.as_slice(), headers.as_slice()) {
            ([data], []) => self.client.query(&self.one, &[data]),
            ([data], [header]) => self.client.query(&self.one, &[data, header]),
            (_, []) => self.client.query(&self.many, &[&data]),
            _ => self.client.query(&self.many, &[&data, &headers]),
        };
        sent.unwrap();
    }
}

/// Its way to name a key.
fn group(message: &Message) -> String {
    format!(r#"{{"x-pgmq-group": "{}"}}"#, message.key)
}

struct PgmqWorker {
    client: Client,
    read: Statement,
    delete: Statement,
    ordered: bool,
    poll: Duration,
}

impl Worker for PgmqWorker {
    fn receive_and_ack(&mut self, seen: &mut dyn FnMut(Message)) -> usize {
        let mut rows = self.client.query(&self.read, &[]).unwrap();
        if rows.is_empty() {
            thread::sleep(self.poll);
            return 0;
        }
        if self.ordered {
            // The rows of an UPDATE .. RETURNING are in no order.
            rows.sort_by_key(|row| row.get::<_, i64>("msg_id"));
        }
        for row in &rows {
            let group: Option<Json> = row.get("headers");
            let key = group.map_or("", |group| group.0);
            seen(Message { key, data: row.get::<_, Json>("message").0 });
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get("msg_id")).collect();
        self.client.query(&self.delete, &[&ids]).unwrap().len()
    }
}
