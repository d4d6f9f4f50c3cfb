//! The rules one by one. `model` tests how they interact.

mod transactions;
mod withheld;

use super::*;
use crate::event::Change;
use crate::ids::{AckRowId, ConsumerId, RequestId};
use crate::pending::{Consumers, Operation, PendingOperations};

const HOUR: Micros = 3_600_000_000;
const LEASE: Micros = 100;
const NONE: [Seq; 0] = [];

/// A consumer, the time, and the one session that uses it.
struct Desk {
    consumer: Consumer,
    ids: Ids,
    now: Micros,
    pending: PendingOperations,
}

struct One<'a>(&'a mut Consumer);

impl Consumers for One<'_> {
    fn consumer(&mut self, _: ConsumerId) -> Option<&mut Consumer> {
        Some(self.0)
    }
}

fn desk(settings: Settings) -> Desk {
    let consumer = Consumer::new(settings);
    Desk { consumer, ids: Ids::new(1).unwrap(), now: HOUR, pending: PendingOperations::default() }
}

impl Desk {
    /// Messages with these keys, from seq 1.
    fn offer(&mut self, keys: &[KeyId]) {
        (1..).zip(keys).for_each(|(seq, &key)| self.consumer.offer(seq, key));
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Consumer, &mut StepContext) -> T) -> T {
        act(
            &mut self.consumer,
            &mut StepContext { now: self.now, wall_offset: 0, ids: &mut self.ids },
        )
    }

    fn deliveries(&mut self, max: usize) -> Vec<Delivery> {
        self.with(|consumer, context| consumer.grant(max, LEASE, 7, context))
    }

    /// The seqs of a batch, and its first ack_id.
    fn grant(&mut self, max: usize) -> (Vec<Seq>, AckId) {
        let deliveries = self.deliveries(max);
        let first = deliveries.first().map_or(AckId::default(), |delivery| delivery.ack_id);
        (deliveries.into_iter().map(|delivery| delivery.seq).collect(), first)
    }

    fn tick_at(&mut self, now: Micros) {
        self.now = now;
        self.with(|consumer, context| consumer.tick(context));
    }

    fn ack(&mut self, ack_id: AckId) -> bool {
        self.consumer.pin(ack_id).is_some() && self.consumer.finish(ack_id)
    }

    fn nack(&mut self, ack_id: AckId, delay: Option<Micros>) {
        self.with(|consumer, context| consumer.nack(ack_id, delay, context));
    }

    fn operation(&mut self, number: u64, operation: Operation) {
        self.pending.add(RequestId(number), ConsumerId(1), operation);
    }

    fn abort(&mut self, from: u64) {
        let mut context = StepContext { now: self.now, wall_offset: 0, ids: &mut self.ids };
        self.pending.abort(RequestId(from), &mut One(&mut self.consumer), &mut context);
    }

    fn commit(&mut self) -> Vec<AckRowId> {
        let mut context = StepContext { now: self.now, wall_offset: 0, ids: &mut self.ids };
        let applied =
            self.pending.commit(RequestId(u64::MAX), &mut One(&mut self.consumer), &mut context);
        applied.into_iter().map(|applied| applied.ack_row_id).collect()
    }

    fn deaths(&mut self) -> usize {
        let events = self.consumer.take_events();
        events.iter().filter(|event| matches!(event.change, Change::Dead { .. })).count()
    }
}

#[test]
fn no_more_than_max_ack_pending_are_in_flight() {
    let mut desk = desk(Settings { max_ack_pending: 3, ..Settings::default() });
    desk.offer(&[1, 2, 3, 4, 5]);
    let (seqs, first) = desk.grant(10);
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(desk.grant(10).0, NONE);
    assert!(desk.ack(first.at(1)));
    assert_eq!(desk.grant(10).0, [4]);
}

#[test]
fn redeliveries_go_first_then_the_lowest() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2, 3, 4, 5]);
    let (_, first) = desk.grant(3);
    desk.nack(first.at(2), None);
    desk.nack(first.at(1), None);
    assert_eq!(desk.grant(1).0, [2]);
    assert_eq!(desk.grant(2).0, [3, 4]);
    assert_eq!(desk.consumer.counts().redelivered_total, 2);
}

#[test]
fn a_later_message_of_a_key_waits_until_the_earlier_is_finished() {
    let mut desk = desk(Settings::default());
    desk.offer(&[7, 7, 8]);
    let (seqs, first) = desk.grant(10);
    assert_eq!(seqs, [1, 3]);
    desk.nack(first, Some(50));
    assert_eq!(desk.grant(10).0, NONE);
    desk.tick_at(HOUR + 50);
    let (seqs, again) = desk.grant(10);
    assert_eq!(seqs, [1]);
    desk.tick_at(HOUR + 50 + LEASE);
    assert!(!desk.ack(again));
    let (seqs, third) = desk.grant(10);
    assert_eq!(seqs, [1, 3]);
    assert!(desk.ack(third));
    assert_eq!(desk.grant(10).0, [2]);
}

#[test]
fn an_unordered_consumer_withholds_nothing() {
    let mut desk = desk(Settings { ordered: false, ..Settings::default() });
    desk.offer(&[7, 7, 7]);
    assert_eq!(desk.grant(10).0, [1, 2, 3]);
}

#[test]
fn the_nth_failure_waits_the_nth_interval() {
    let mut desk = desk(Settings { backoff: vec![10, 20], ..Settings::default() });
    desk.offer(&[1]);
    for wait in [10, 20, 20] {
        let (_, ack_id) = desk.grant(1);
        desk.nack(ack_id, None);
        assert_eq!(desk.consumer.next_due(), Some(desk.now + wait));
        desk.tick_at(desk.now + wait - 1);
        assert_eq!(desk.grant(1).0, NONE);
        desk.tick_at(desk.now + 1);
    }
    let (_, ack_id) = desk.grant(1);
    desk.nack(ack_id, Some(5));
    assert_eq!(desk.consumer.next_due(), Some(desk.now + 5));
}

#[test]
fn the_last_delivery_that_fails_is_one_dead_letter() {
    let mut desk = desk(Settings { max_deliver: Some(2), ..Settings::default() });
    desk.offer(&[7, 7]);
    let (_, first) = desk.grant(1);
    desk.nack(first, None);
    assert_eq!(desk.deaths(), 0);
    assert_eq!(desk.deliveries(1)[0].deliveries, 2);
    desk.tick_at(HOUR + LEASE);
    desk.tick_at(HOUR + LEASE);
    assert_eq!(desk.deaths(), 1);
    assert_eq!(desk.consumer.counts().dead_total, 1);
    assert_eq!(desk.grant(1).0, [2]);
}

#[test]
fn a_lower_max_deliver_makes_dead_letters_of_what_has_had_its_deliveries() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2]);
    let (_, first) = desk.grant(1);
    desk.nack(first, None);
    desk.consumer.set(Settings { max_deliver: Some(1), ..Settings::default() });
    assert_eq!(desk.grant(10).0, [2]);
    assert_eq!(desk.deaths(), 1);
}

#[test]
fn a_late_ack_is_nothing() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1]);
    let (_, first) = desk.grant(1);
    desk.tick_at(HOUR + LEASE);
    let (seqs, second) = desk.grant(1);
    assert_eq!(seqs, [1]);
    assert!(!desk.ack(first));
    desk.nack(first, None);
    assert!(!desk.with(|consumer, context| consumer.extend(first, LEASE, context)));
    assert_eq!(desk.consumer.counts().in_flight, 1);
    assert!(desk.ack(second));
    assert!(!desk.ack(second));
}

#[test]
fn an_extension_counts_from_now() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1]);
    let (_, ack_id) = desk.grant(1);
    desk.now += 60;
    assert!(desk.with(|consumer, context| consumer.extend(ack_id, LEASE, context)));
    desk.tick_at(HOUR + 159);
    assert_eq!(desk.consumer.counts().in_flight, 1);
    desk.tick_at(HOUR + 160);
    assert_eq!(desk.consumer.counts().in_flight, 0);
}

#[test]
fn a_pinned_delivery_never_times_out() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1]);
    let (_, ack_id) = desk.grant(1);
    assert!(desk.consumer.pin(ack_id).is_some());
    assert_eq!(desk.consumer.pin(ack_id), None);
    desk.tick_at(9 * HOUR);
    assert_eq!(desk.grant(1).0, NONE);
    desk.consumer.unpin(ack_id);
    desk.tick_at(9 * HOUR);
    assert_eq!(desk.grant(1).0, [1]);
}

#[test]
fn a_paused_consumer_delivers_nothing_and_takes_acks() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2]);
    let (_, ack_id) = desk.grant(1);
    desk.consumer.set(Settings { paused: true, ..Settings::default() });
    assert_eq!((desk.consumer.deliverable(), desk.grant(1).0), (0, vec![]));
    assert!(desk.ack(ack_id));
    desk.consumer.set(Settings::default());
    assert_eq!(desk.grant(1).0, [2]);
}

#[test]
fn a_clock_that_steps_by_an_hour_loses_nothing() {
    let mut desk = desk(Settings { backoff: vec![10], ..Settings::default() });
    desk.offer(&[1, 2]);
    let (_, first) = desk.grant(2);
    desk.nack(first, None);
    desk.tick_at(0);
    assert_eq!(desk.grant(2).0, NONE);
    assert_eq!(desk.consumer.next_due(), Some(HOUR + 10));
    desk.tick_at(2 * HOUR);
    desk.tick_at(2 * HOUR + 10);
    assert_eq!(desk.grant(2).0, [1, 2]);
}

#[test]
fn a_message_that_is_gone_holds_nothing_up() {
    let mut desk = desk(Settings::default());
    desk.offer(&[7, 7]);
    let (_, ack_id) = desk.grant(1);
    desk.with(|consumer, context| consumer.gone(ack_id, context));
    assert_eq!(desk.grant(1).0, [2]);
    let events = desk.consumer.take_events();
    assert!(events.iter().any(|event| event.change == Change::Finished { seqs: vec![1] }));
}

#[test]
fn a_redelivered_message_counts_from_one_and_waits_its_turn() {
    let mut desk = desk(Settings::default());
    desk.offer(&[7, 7]);
    let (_, first) = desk.grant(1);
    assert!(!desk.consumer.redeliver(1, 7), "it is unfinished");
    assert!(desk.ack(first));
    let (_, second) = desk.grant(1);
    assert!(desk.consumer.redeliver(1, 7));
    assert_eq!(desk.grant(1).0, NONE);
    assert!(desk.ack(second));
    assert_eq!(desk.deliveries(1)[0].deliveries, 1);
}
