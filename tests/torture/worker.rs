//! A client that works on a consumer's messages: in autocommit or in a transaction, and not always as it should. It is
//! late, forgets, gives back, rolls back.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use postgres::{Client, Error, GenericClient, Transaction};

use super::history::{Consumer, Delivery, Effect, NEVER, Receive, Time};
use super::recorder::Recorder;
use crate::calls::{Calls, millis};

/// A deadline or a delay is over a little later than said: the dispatcher has to come to it.
const LATENESS: Duration = millis(500);

pub struct Worker<'a> {
    recorder: &'a Recorder,
    consumer: &'a Consumer,
    number: usize,
    rng: Rng,
}

enum Choice {
    Ack,
    LateAck,
    ExtendAndAck,
    Nack(Duration),
    Reject,
    Forget,
}

impl<'a> Worker<'a> {
    pub fn new(recorder: &'a Recorder, consumer: &'a Consumer, number: usize, rng: Rng) -> Self {
        Self { recorder, consumer, number, rng }
    }

    /// Receives once, and does something with it. An error: the connection is of no more use.
    pub fn step(&mut self, client: &mut Client) -> Result<(), Error> {
        if self.rng.u8(0..10) < 4 {
            return self.in_transaction(client);
        }
        let mut receive = self.receive(client)?;
        let result = match self.rng.u8(0..3) {
            0 => self.ack_all(client, &mut receive),
            _ => self.each_on_its_own(client, &mut receive),
        };
        self.recorder.receive(receive);
        result
    }

    /// Receives and acks all that comes, until it is asked for no more.
    pub fn drain(&mut self, client: &mut Client) -> Result<usize, Error> {
        let mut receive = self.receive(client)?;
        let count = receive.deliveries.len();
        let result = self.ack_all(client, &mut receive);
        self.recorder.receive(receive);
        result.map(|()| count)
    }

    /// The deliveries are as those of a worker that forgets them.
    fn receive(&mut self, client: &mut impl GenericClient) -> Result<Receive, Error> {
        let (batch, wait) = (self.rng.i32(1..=10), millis(self.rng.u64(0..300)));
        let called = self.recorder.now();
        let result = client.try_receive(self.consumer.name, batch, wait);
        let returned = self.recorder.now();
        let deliveries = result.inspect_err(|error| {
            self.recorder.failure("receive", error);
        })?;
        let deliveries = deliveries.into_iter().map(|delivery| Delivery {
            ack_id: delivery.ack_id,
            seq: delivery.seq,
            key: delivery.key,
            number: delivery.data.parse().unwrap_or(-1),
            deliver_count: delivery.deliver_count,
            held_until: called + self.consumer.ack_wait,
            free_after: self.free_after(returned + self.consumer.ack_wait),
            finished: Effect::No,
            ending: NEVER,
            ended: NEVER,
            lost: false,
        });
        let deliveries = deliveries.collect();
        Ok(Receive { consumer: self.number, called, returned, deliveries })
    }

    fn free_after(&self, end: Time) -> Time {
        end + self.consumer.backoff + LATENESS
    }

    fn ack_all(&mut self, client: &mut Client, receive: &mut Receive) -> Result<(), Error> {
        let ack_ids: Vec<i64> = receive.deliveries.iter().map(|d| d.ack_id).collect();
        if ack_ids.is_empty() {
            return Ok(());
        }
        let ending = self.recorder.now();
        let result = client.try_ack(self.consumer.name, &ack_ids);
        let ended = self.recorder.now();
        let effect = match &result {
            Ok(count) if *count as usize == ack_ids.len() => Effect::Yes,
            Ok(0) => Effect::No,
            // Of some it took effect. Which ones, it doesn't tell.
            Ok(_) => Effect::Perhaps,
            Err(error) => self.recorder.failure("ack", error),
        };
        for delivery in &mut receive.deliveries {
            finish(delivery, effect, ending, ended);
            delivery.lost = matches!(result, Ok(0)) && ended < delivery.held_until;
        }
        result.map(drop)
    }

    fn each_on_its_own(&mut self, client: &mut Client, receive: &mut Receive) -> Result<(), Error> {
        for delivery in &mut receive.deliveries {
            let choice = match self.rng.u8(0..100) {
                0..83 => Choice::Ack,
                83 => Choice::LateAck,
                84..88 => Choice::ExtendAndAck,
                88..97 => Choice::Nack(millis(self.rng.u64(0..2) * 100)),
                97 => Choice::Reject,
                _ => Choice::Forget,
            };
            self.end(client, delivery, choice)?;
        }
        Ok(())
    }

    fn end(
        &mut self,
        client: &mut Client,
        delivery: &mut Delivery,
        choice: Choice,
    ) -> Result<(), Error> {
        match choice {
            Choice::Forget => return Ok(()),
            Choice::LateAck => {
                let late = delivery.free_after.saturating_sub(self.recorder.now());
                thread::sleep(late + millis(20));
            }
            Choice::ExtendAndAck if !self.extend(client, delivery)? => return Ok(()),
            _ => {}
        }
        let (name, id) = (self.consumer.name, [delivery.ack_id]);
        let ending = self.recorder.now();
        let result = match choice {
            Choice::Nack(delay) => client
                .query_one(
                    "SELECT sequin.nack($1, $2, make_interval(secs => $3))",
                    &[&name, &&id[..], &delay.as_secs_f64()],
                )
                .map(|row| row.get(0)),
            Choice::Reject => client
                .query_one("SELECT sequin.reject($1, $2, 'rejected')", &[&name, &&id[..]])
                .map(|row| row.get(0)),
            _ => client.try_ack(name, &id),
        };
        let ended = self.recorder.now();
        let effect = match &result {
            Ok(count) if *count > 0 => Effect::Yes,
            Ok(_) => Effect::No,
            Err(error) => self.recorder.failure("ack, nack or reject", error),
        };
        delivery.lost = result.is_ok() && effect == Effect::No && ended < delivery.held_until;
        match choice {
            Choice::Nack(delay) => self.release(delivery, effect, delay, ending, ended),
            _ => finish(delivery, effect, ending, ended),
        }
        result.map(drop)
    }

    /// Whether it is still this worker's.
    fn extend(&mut self, client: &mut Client, delivery: &mut Delivery) -> Result<bool, Error> {
        let called = self.recorder.now();
        let extend = "SELECT sequin.extend($1, $2)";
        let result = client.query_one(extend, &[&self.consumer.name, &&[delivery.ack_id][..]]);
        let returned = self.recorder.now();
        let ack_wait = self.consumer.ack_wait;
        // Whether it takes effect or not, it's free no earlier.
        delivery.free_after = self.free_after(returned + ack_wait);
        match result {
            Ok(row) if row.get::<_, i32>(0) == 1 => {
                delivery.held_until = called + ack_wait;
                Ok(true)
            }
            Ok(_) => {
                delivery.ended = returned;
                delivery.lost = returned < delivery.held_until;
                Ok(false)
            }
            Err(error) => {
                self.recorder.failure("extend", &error);
                Err(error)
            }
        }
    }

    fn release(
        &self,
        delivery: &mut Delivery,
        effect: Effect,
        delay: Duration,
        ending: Time,
        ended: Time,
    ) {
        (delivery.ending, delivery.ended) = (ending, ended);
        let back = self.free_after(ended + delay);
        match effect {
            Effect::Yes => delivery.free_after = back,
            Effect::Perhaps => delivery.free_after = delivery.free_after.max(back),
            Effect::No => return,
        }
        delivery.held_until = delivery.held_until.min(ending);
    }

    /// Receives, writes what came into a table, and acks, in one transaction.
    fn in_transaction(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut transaction = client.transaction().inspect_err(|error| {
            self.recorder.failure("BEGIN", error);
        })?;
        let mut receive = self.receive(&mut transaction)?;
        let result = self.work(&mut transaction, &receive);
        thread::sleep(millis(self.rng.u64(0..20)));
        let ending = self.recorder.now();
        let (done, committed, result) = match result {
            Err(error) => {
                self.recorder.failure("work", &error);
                (Vec::new(), Effect::No, Err(error))
            }
            Ok(done) => match self.rng.u8(0..10) {
                0..3 => (done, Effect::No, transaction.rollback()),
                _ => match transaction.commit() {
                    Ok(()) => (done, Effect::Yes, Ok(())),
                    Err(error) => (done, self.recorder.failure("COMMIT", &error), Err(error)),
                },
            },
        };
        let ended = self.recorder.now();
        let rolled_back = committed != Effect::Yes;
        for delivery in &mut receive.deliveries {
            (delivery.ending, delivery.ended) = (ending, ended);
            if done.contains(&delivery.ack_id) {
                finish(delivery, committed, ending, ended);
            }
            if rolled_back {
                // A session that is told of its end may have ended before.
                let until = if result.is_ok() { ending } else { receive.returned };
                delivery.held_until = delivery.held_until.min(until);
            }
            if rolled_back && result.is_ok() {
                delivery.free_after = self.free_after(ended);
            }
        }
        self.recorder.receive(receive);
        result
    }

    /// The ack_ids whose ack is in the transaction.
    fn work(
        &mut self,
        transaction: &mut Transaction,
        receive: &Receive,
    ) -> Result<Vec<i64>, Error> {
        let mut done = Vec::new();
        for delivery in &receive.deliveries {
            let undo = self.rng.u8(0..40) == 0;
            transaction.batch_execute("SAVEPOINT one")?;
            let effect = "INSERT INTO worker.effect VALUES ($1, $2)";
            transaction.execute(effect, &[&self.consumer.name, &delivery.seq])?;
            let acked = transaction.try_ack(self.consumer.name, &[delivery.ack_id])?;
            if undo || acked == 0 {
                transaction.batch_execute("ROLLBACK TO one")?;
            } else {
                done.push(delivery.ack_id);
            }
        }
        Ok(done)
    }
}

fn finish(delivery: &mut Delivery, effect: Effect, ending: Time, ended: Time) {
    (delivery.ending, delivery.ended) = (ending, ended);
    delivery.finished = effect;
    if effect != Effect::No {
        delivery.held_until = delivery.held_until.min(ending);
    }
    if effect == Effect::Yes {
        delivery.free_after = ended;
    }
}
