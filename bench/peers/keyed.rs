//! Publishing by statements that take a key and a jsonb, or an array of each.

use postgres::{Client, Statement};

use super::message::{Json, Message};
use super::sql::Publisher;

pub struct KeyedPublisher {
    client: Client,
    one: Statement,
    many: Statement,
}

impl KeyedPublisher {
    /// The statement for a single message, and that for many.
    pub fn new(mut client: Client, one: &str, many: &str) -> Self {
        let (one, many) = (client.prepare(one).unwrap(), client.prepare(many).unwrap());
        Self { client, one, many }
    }
}

impl Publisher for KeyedPublisher {
    fn publish(&mut self, messages: &[Message]) {
        if let [message] = messages {
            self.client.query(&self.one, &[&message.key, &Json(message.data)]).unwrap();
            return;
        }
        let (keys, data): (Vec<&str>, Vec<Json>) =
            messages.iter().map(|message| (message.key, Json(message.data))).unzip();
        self.client.query(&self.many, &[&keys, &data]).unwrap();
    }
}
