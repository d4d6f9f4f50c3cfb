//! A client that receives and acks, and times it.

use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use super::BATCH;
use super::prepare::{CONSUMER, STREAM};
use crate::messages::{self, PAYLOAD};

/// Milliseconds.
pub struct Sample {
    /// From the call of receive to its rows.
    pub receive: f64,
    /// All calls.
    pub cycle: f64,
}

pub struct Worker {
    pub client: Client,
    publish: Statement,
    receive: Statement,
    ack: Statement,
}

impl Worker {
    pub fn new(mut client: Client) -> Self {
        let publish = format!(
            "SELECT count(*) FROM sequin.publish_many('{STREAM}',
             ARRAY(SELECT 'orders.' || $1::bigint || '.' || n FROM generate_series(1, {BATCH}) n),
             array_fill('{PAYLOAD}'::jsonb, ARRAY[{BATCH}]))"
        );
        let receive = format!("SELECT * FROM sequin.receive('{CONSUMER}', {BATCH}, '10 s')");
        let ack = format!("SELECT sequin.ack('{CONSUMER}', $1)");
        Self {
            publish: client.prepare(&publish).unwrap(),
            receive: client.prepare(&receive).unwrap(),
            ack: client.prepare(&ack).unwrap(),
            client,
        }
    }

    pub fn publish(&mut self, count: usize) {
        messages::publish(&mut self.client, STREAM, "orders", count);
    }

    pub fn receive_and_ack(&mut self) -> Sample {
        let begun = Instant::now();
        let rows = self.client.query(&self.receive, &[]).unwrap();
        let receive = begun.elapsed();
        assert_eq!(rows.len(), BATCH);
        let ack_ids: Vec<i64> = rows.iter().map(|row| row.get("ack_id")).collect();
        let acked: i32 = self.client.query_one(&self.ack, &[&ack_ids]).unwrap().get(0);
        assert_eq!(acked as usize, BATCH);
        Sample { receive: millis(receive), cycle: millis(begun.elapsed()) }
    }

    pub fn publish_receive_and_ack(&mut self, duration: Duration) -> Vec<Sample> {
        let end = Instant::now() + duration;
        let mut samples = Vec::new();
        while Instant::now() < end {
            let begun = Instant::now();
            let key = fastrand::i64(0..messages::KEYS as i64);
            self.client.query_one(&self.publish, &[&key]).unwrap();
            let sample = self.receive_and_ack();
            samples.push(Sample { cycle: millis(begun.elapsed()), ..sample });
        }
        samples
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
