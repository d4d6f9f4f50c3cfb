//! What a restart keeps. `model` shows that it keeps all of it, whatever happened before.

use super::*;
use crate::consumer::StepContext;
use crate::event::Event;
use crate::ids::Ids;

/// A consumer that was offered seqs 1 to 9, of keys 1 to 3 in turn, and has them all in memory.
struct Life {
    consumer: Consumer,
    ids: Ids,
    now: Micros,
}

const CURSOR: Seq = 9;

impl Life {
    fn new() -> Life {
        let mut consumer = Consumer::new(Settings::default());
        (1..=CURSOR).for_each(|seq| consumer.offer(seq, 1 + (seq as u64 - 1) % 3));
        Life { consumer, ids: Ids::new(1).unwrap(), now: 1000 }
    }

    /// Grants all that can be granted, and returns the ack_ids.
    fn grant(&mut self) -> Vec<(Seq, AckId)> {
        let mut context = StepContext { now: self.now, wall_offset: 0, ids: &mut self.ids };
        let deliveries = self.consumer.grant(100, 50, 7, &mut context);
        deliveries.into_iter().map(|delivery| (delivery.seq, delivery.ack_id)).collect()
    }

    fn nack(&mut self, ack_id: AckId, delay: Option<Micros>) {
        let mut context = StepContext { now: self.now, wall_offset: 0, ids: &mut self.ids };
        self.consumer.nack(ack_id, delay, &mut context);
    }

    fn state(&self) -> ConsumerState {
        self.consumer.state(CURSOR, &RangeSet::new())
    }
}

fn replayed(mut state: ConsumerState, events: Vec<Event>) -> ConsumerState {
    events.into_iter().for_each(|event| state.replay(event.change));
    state
}

/// What a state says of each message: how often it was delivered, its ack_id or 0, and until when.
fn holds(state: &ConsumerState) -> Vec<(Seq, u32, AckId, Micros)> {
    let of = |&(item, hold): &(Item, Hold)| match hold {
        Hold::InFlight(lease) => (item.seq, item.deliveries, lease.ack_id, lease.due),
        Hold::Until(until) => (item.seq, item.deliveries, AckId(0), until),
    };
    state.active.values().map(of).collect()
}

#[test]
fn the_journal_replayed_gives_the_state_that_wrote_it() {
    let mut life = Life::new();
    let before = life.state();
    let [(1, first), (2, second), (3, third)] = life.grant()[..] else { panic!("three keys") };
    life.nack(second, Some(500));
    life.nack(third, None);
    let mut context = StepContext { now: life.now + 20, wall_offset: 0, ids: &mut life.ids };
    assert!(life.consumer.extend(first, 50, &mut context));
    let after = replayed(before, life.consumer.take_events());
    assert_eq!(holds(&after), holds(&life.state()));
    assert_eq!(holds(&after), [(1, 1, first, 1070), (2, 1, AckId(0), 1500), (3, 1, AckId(0), 0)]);
}

#[test]
fn leases_counts_and_pins_survive_new_settings() {
    let mut life = Life::new();
    let granted = life.grant();
    assert!(life.consumer.pin(granted[0].1).is_some());
    life.nack(granted[1].1, None);
    let mut consumer = Consumer::restore(Settings::default(), life.state());
    assert_eq!(consumer.pin(granted[0].1), None, "it is pinned already");
    assert_eq!(consumer.next_due(), Some(1050), "only the other is timed");
    assert_eq!(consumer.pin(granted[2].1).map(|delivery| delivery.deliveries), Some(1));
    assert_eq!(consumer.in_flight(AckId(0)).next().map(|(lease, ..)| lease.holder), Some(7));
}

/// Message 2 is to be delivered again; 5, of the same key, waits behind it and is not loaded yet.
#[test]
fn nothing_is_delivered_before_what_was_reached_is_loaded_again() {
    let mut life = Life::new();
    let granted = life.grant();
    life.consumer.finish(granted[1].1);
    let later = life.grant();
    assert_eq!(later[0].0, 5);
    life.nack(later[0].1, None);
    assert!(life.consumer.redeliver(2, 2));
    life.consumer = Consumer::restore(Settings::default(), life.state());
    assert_eq!((life.consumer.deliverable(), life.grant()), (0, vec![]));
    life.consumer.offer(2, 2);
    life.consumer.loaded(5, None);
    assert_eq!(life.grant().first().map(|&(seq, _)| seq), Some(2));
}

#[test]
fn an_ack_that_comes_before_its_message_is_loaded_again_counts() {
    let mut life = Life::new();
    let granted = life.grant();
    life.consumer = Consumer::restore(Settings::default(), life.state());
    assert!(life.consumer.finish(granted[1].1));
    (1..=CURSOR).for_each(|seq| life.consumer.offer(seq, 1 + (seq as u64 - 1) % 3));
    assert!(!life.consumer.is_unfinished(2, 2));
    assert!(life.consumer.is_unfinished(5, 2));
}

#[test]
fn holes_are_neither_finished_nor_below_the_floor() {
    let mut consumer = Consumer::new(Settings::default());
    consumer.loaded(10, None);
    let mut holes = RangeSet::new();
    holes.insert_range(4, 5);
    holes.insert(8);
    let state = consumer.state(10, &holes);
    assert_eq!((state.floor, consumer.floor(10, &holes)), (3, 3));
    assert_eq!(state.done.to_pairs(), [6, 7, 9, 10]);
}

#[test]
fn a_redelivered_message_below_the_floor_is_all_that_comes_again() {
    let mut state = ConsumerState::start(9, RangeSet::new());
    state.replay(Change::Redelivered { seqs: vec![3, 6] });
    assert_eq!(state.floor, 2);
    assert_eq!(state.done.to_pairs(), [4, 5, 7, 9]);
    let mut consumer = Consumer::restore(Settings::default(), state);
    (1..=12).for_each(|seq| consumer.offer(seq, seq as u64));
    let loaded: Vec<Seq> = consumer.messages.keys().copied().collect();
    assert_eq!(loaded, [3, 6, 10, 11, 12]);
}

#[test]
fn a_redelivered_message_survives_a_restart() {
    let mut life = Life::new();
    loop {
        let granted = life.grant();
        if granted.is_empty() {
            break;
        }
        granted.into_iter().for_each(|(_, ack_id)| assert!(life.consumer.finish(ack_id)));
    }
    assert_eq!((life.state().floor, life.state().size()), (9, 0));
    assert!(life.consumer.redeliver(4, 1));
    let state = life.state();
    assert_eq!((state.floor, state.done.to_pairs()), (3, vec![5, 9]));
}

#[test]
fn an_ack_whose_delivery_was_lost_counts() {
    let mut state = ConsumerState::start(0, RangeSet::new());
    state.replay(Change::Finished { seqs: vec![2] });
    let mut consumer = Consumer::restore(Settings::default(), state);
    (1..=3).for_each(|seq| consumer.offer(seq, 7));
    assert!(!consumer.is_unfinished(2, 7));
}

#[test]
fn two_of_a_key_in_flight_are_both_waited_for_when_order_is_switched_on() {
    let settings = Settings { ordered: false, ..Settings::default() };
    let mut life = Life { consumer: Consumer::new(settings), ..Life::new() };
    (1..=3).for_each(|seq| life.consumer.offer(seq, 7));
    let granted = life.grant();
    life.nack(granted[1].1, None);
    life.consumer = Consumer::restore(Settings::default(), life.state());
    life.consumer.loaded(CURSOR, None);
    assert!(life.grant().is_empty());
    life.consumer.finish(granted[0].1);
    assert!(life.grant().is_empty(), "3 is still in flight");
    life.consumer.finish(granted[2].1);
    assert_eq!(life.grant().len(), 1);
}

#[test]
fn numbers_that_nobody_counts_up_to_are_told() {
    let item = |seq| Item { seq, key: 1, deliveries: 1 };
    let delivered = |first, items| Change::Delivered { first_ack_id: AckId(first), due: 0, items };
    for possible in [
        delivered(1, vec![item(1), item(Seq::MAX)]),
        Change::Extended { ack_id: AckId(1), seq: 1, due: -1 },
        Change::Finished { seqs: vec![] },
    ] {
        assert!(possible.is_possible(), "{possible:?}");
    }
    for impossible in [
        delivered(i64::MAX, vec![item(1), item(2)]),
        delivered(0, vec![item(1)]),
        delivered(1, vec![item(1), item(0)]),
        Change::Returned { item: item(Seq::MIN), until: 0 },
        Change::Dead { item: item(-1) },
        Change::Extended { ack_id: AckId(1), seq: 0, due: 0 },
        Change::Finished { seqs: vec![1, Seq::MIN] },
        Change::Redelivered { seqs: vec![0] },
    ] {
        assert!(!impossible.is_possible(), "{impossible:?}");
    }
    let mut done = RangeSet::new();
    done.insert_range(5, 7);
    let state = ConsumerState::start(3, done.clone());
    assert!(state.is_possible());
    assert!(!ConsumerState::start(-1, done.clone()).is_possible());
    assert!(!ConsumerState { dead_total: i64::MAX, ..state.clone() }.is_possible());
    assert!(!ConsumerState { acked_total: -1, ..state.clone() }.is_possible());
    let active = [(0, (item(0), Hold::Until(0)))].into();
    assert!(!ConsumerState { active, ..state }.is_possible());
    done.insert(0);
    assert!(!ConsumerState::start(3, done).is_possible());
}
