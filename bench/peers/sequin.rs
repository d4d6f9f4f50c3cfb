//! Sequin: any number of consumers of one stream. Workers wait in receive.

use postgres::{Client, Statement};

use super::keyed::KeyedPublisher;
use super::message::{Json, Message};
use super::peer::{Load, SEQUIN};
use super::sql::{Publisher, Queue, Worker};

pub struct Sequin;

const STREAM: &str = "messages";

impl Queue for Sequin {
    fn name(&self) -> &'static str {
        SEQUIN
    }

    fn schemas(&self) -> &'static str {
        "sequin%"
    }

    fn create(&self, client: &mut Client, load: &Load) {
        let drop = "SELECT sequin.drop_stream(name, force => true) FROM sequin.streams";
        client.batch_execute(drop).unwrap();
        // That index is for people who look for messages by key. No peer has one like it.
        let create = format!("SELECT sequin.create_stream('{STREAM}', index_keys => false)");
        client.batch_execute(&create).unwrap();
        for n in 1..=load.consumers {
            let create = format!("SELECT sequin.create_consumer('{STREAM}', 'consumer_{n}')");
            client.batch_execute(&create).unwrap();
        }
    }

    fn publisher(&self, client: Client, _: &Load) -> Box<dyn Publisher> {
        let one = format!("SELECT sequin.publish('{STREAM}', $1, $2)");
        let many = format!("SELECT * FROM sequin.publish_many('{STREAM}', $1, $2)");
        Box::new(KeyedPublisher::new(client, &one, &many))
    }

    fn worker(&self, mut client: Client, load: &Load, consumer: usize) -> Box<dyn Worker> {
        let receive =
            format!("SELECT * FROM sequin.receive('consumer_{consumer}', {}, '1 s')", load.batch);
        let ack = format!("SELECT sequin.ack('consumer_{consumer}', $1)");
        let (receive, ack) = (client.prepare(&receive).unwrap(), client.prepare(&ack).unwrap());
        Box::new(SequinWorker { client, receive, ack })
    }
}

struct SequinWorker {
    client: Client,
    receive: Statement,
    ack: Statement,
}

impl Worker for SequinWorker {
    fn receive_and_ack(&mut self, seen: &mut dyn FnMut(Message)) -> usize {
        let rows = self.client.query(&self.receive, &[]).unwrap();
        if rows.is_empty() {
            return 0;
        }
        for row in &rows {
            seen(Message { key: row.get("key"), data: row.get::<_, Json>("data").0 });
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get("ack_id")).collect();
        self.client.query_one(&self.ack, &[&ids]).unwrap().get::<_, i32>(0) as usize
    }
}
