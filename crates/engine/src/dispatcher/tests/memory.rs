//! Consumers take no more than their budget together, and those that nobody asks for take nothing.

use super::super::journal::WRITE_AFTER;
use super::super::memory::{IDLE_AFTER, RETRY_TRIM, RETRY_UNLOAD, SHARE, TRIM_EVERY};
use super::write_steps::*;
use super::*;

/// Leases that don't run out meanwhile.
fn with_long_leases() -> Rig {
    Rig::with(|rig| {
        rig.consumers.iter_mut().for_each(|config| config.settings.ack_wait = 3600 * SECOND);
    })
}

impl Rig {
    /// Messages of so many keys.
    fn insert_many(&mut self, stream: StreamId, prefix: &str, count: usize) {
        (0..count).for_each(|n| self.insert(stream, &[&format!("{prefix}.{n}")]));
    }

    /// A session receives one message. Its transaction commits, and it must ask to finish it.
    fn receive_one(&mut self, session: SessionId, consumer: ConsumerId) {
        let until = self.in_time(0);
        let receive = Request::Receive { consumer, batch: 1, ack_wait: None, until };
        let id = self.post(session, receive);
        self.tick();
        let ack_id = self.deliveries(id)[0].1;
        self.commit(session);
        self.extend(consumer, ack_id, 1);
    }

    fn is_loaded(&mut self, consumer: ConsumerId) -> bool {
        self.stats(consumer).is_loaded
    }

    fn ready(&mut self, consumer: ConsumerId) -> usize {
        self.stats(consumer).counts.ready
    }
}

#[test]
fn a_consumer_that_nobody_asks_for_is_unloaded_after_a_while_and_comes_back() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    assert_eq!(rig.sleeps(), IDLE_AFTER);
    rig.after(IDLE_AFTER - 2 * SECOND);
    rig.receive(1, ONE);
    rig.after(2 * SECOND);
    assert!(rig.is_loaded(ONE));
    assert_eq!(rig.sleeps(), IDLE_AFTER - 2 * SECOND);
    rig.after(IDLE_AFTER - 2 * SECOND - 1);
    assert!(rig.is_loaded(ONE));
    rig.after(1);
    assert!(!rig.is_loaded(ONE));
    assert_eq!((rig.rules.memory_taken(), rig.rules.wake_at()), (0, Micros::MAX));
    rig.insert(S, &["a"]);
    assert_eq!(rig.receive(1, ONE).len(), 1);
    assert!(rig.is_loaded(ONE));
}

#[test]
fn a_consumer_that_was_just_loaded_leaves_nothing_to_be_done_at_once() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    let until = rig.in_time(0);
    rig.post(1, Request::Receive { consumer: TWO, batch: 1, ack_wait: None, until });
    assert!(rig.sleeps() > 0);
}

#[test]
fn a_consumer_with_deliveries_in_flight_stays_and_is_looked_at_again() {
    let mut rig = with_long_leases();
    rig.insert(S, &["a"]);
    rig.receive_one(1, ONE);
    assert_eq!(rig.write_for(2 * IDLE_AFTER), [ONE]);
    assert!(rig.is_loaded(ONE));
    rig.write_after(rig.rules.wake_at() - rig.clock.mono);
    assert_eq!(rig.sleeps(), RETRY_UNLOAD);
}

#[test]
fn a_consumer_stays_that_a_session_waits_for() {
    let mut rig = Rig::new();
    let waiting = rig.wait(1, ONE, 3600 * SECOND);
    rig.write_for(2 * IDLE_AFTER);
    assert!(rig.is_loaded(ONE));
    rig.publish(S, &["a"]);
    assert_eq!(rig.deliveries(waiting).len(), 1);
}

/// Such a delivery has no deadline.
#[test]
fn a_consumer_stays_while_a_transaction_is_open_that_has_acked() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    let received = rig.receive(1, ONE);
    rig.commit(1);
    rig.ask_to_finish(2, ONE, &received);
    rig.write_for(2 * IDLE_AFTER);
    assert!(rig.is_loaded(ONE));
    rig.commit(2);
    assert_eq!(rig.stats(ONE).counts.acked_total, 1);
}

#[test]
fn a_consumer_is_saved_before_it_is_unloaded() {
    let mut rig = with_long_leases();
    rig.insert_many(S, "a", 8);
    let received = rig.receive(1, ONE);
    assert_eq!(rig.write_after(SECOND), [ONE]);
    // One row of sequin.acks: not worth a checkpoint yet.
    rig.finish_and_commit(1, ONE, &received);
    assert_eq!(rig.write_for(IDLE_AFTER - SECOND), []);
    let effects = rig.after(SECOND);
    assert_eq!(checkpoints(&effects), [ONE]);
    assert!(rig.is_loaded(ONE));
    rig.write(effects);
    assert_eq!(rig.sleeps(), RETRY_UNLOAD);
    rig.after(RETRY_UNLOAD);
    assert!(!rig.is_loaded(ONE));
}

#[test]
fn a_consumer_loads_as_much_as_its_share_of_what_is_left_of_the_budget() {
    let loaded = |budget| {
        let mut rig = Rig::new();
        rig.rules.set_memory_budget(budget);
        rig.insert_many(S, "a", 2 * LOOK_AHEAD);
        rig.receive_one(1, ONE);
        rig.tick();
        (rig.ready(ONE) + 1, rig.rules.memory_taken())
    };
    let (usual, taken) = loaded(usize::MAX);
    assert_eq!(usual, LOOK_AHEAD);
    let message = taken / LOOK_AHEAD;
    assert_eq!(loaded(12 * message * SHARE).0, 12);
}

/// One message of 20 is in flight, and all that has happened is written.
fn loaded() -> Rig {
    let mut rig = with_long_leases();
    rig.insert_many(S, "a", 20);
    rig.receive_one(1, ONE);
    rig.write_for(2 * SECOND);
    assert_eq!(rig.ready(ONE), 19);
    rig
}

#[test]
fn what_is_loaded_is_forgotten_when_all_together_are_over_the_budget_and_read_again() {
    let mut rig = loaded();
    let taken = rig.rules.memory_taken();
    rig.rules.set_memory_budget(taken);
    assert!(rig.sleeps() >= SECOND);
    assert_eq!(rig.ready(ONE), 19);
    rig.rules.set_memory_budget(taken - 1);
    assert!(rig.sleeps() <= 0);
    rig.tick();
    assert!(rig.sleeps() > 0);
    assert!(rig.rules.memory_taken() < taken / 2);
    let counts = rig.stats(ONE).counts;
    assert_eq!((counts.ready, counts.in_flight), (0, 1));
    assert_eq!(rig.receive(2, ONE).first().map(|&(seq, _)| seq), Some(2));
}

#[test]
fn the_largest_are_trimmed_and_only_until_there_is_some_room() {
    let mut rig = Rig::with(|rig| {
        rig.consumers[0].filters = vec!["a.>".into()];
        rig.consumers[1].filters = vec!["b.>".into()];
    });
    rig.insert_many(S, "a", 20);
    rig.insert_many(S, "b", 10);
    rig.insert_many(T, "c", 9);
    [TWO, ONE, THREE].into_iter().for_each(|consumer| rig.receive_one(1, consumer));
    rig.tick();
    rig.rules.set_memory_budget(rig.rules.memory_taken() - 1);
    rig.tick();
    assert_eq!([ONE, TWO, THREE].map(|consumer| rig.ready(consumer)), [0, 9, 8]);
}

#[test]
fn where_little_can_be_forgotten_it_is_looked_for_more_seldom() {
    let mut rig = with_long_leases();
    rig.insert_many(S, "a", 10);
    let received = rig.receive(1, ONE);
    rig.commit(1);
    rig.extend(ONE, received[0].1, 1);
    rig.write_for(2 * SECOND);
    // All is in flight.
    rig.rules.set_memory_budget(1);
    rig.tick();
    assert_eq!(rig.sleeps(), RETRY_TRIM);
    rig.receive_one(2, TWO);
    rig.write_after(WRITE_AFTER);
    assert_eq!(rig.ready(TWO), 3);
    rig.write_after(RETRY_TRIM - WRITE_AFTER - 1);
    assert_eq!(rig.ready(TWO), 3);
    rig.write_after(1);
    assert_eq!(rig.ready(TWO), 0);
    // That was not in vain, and it is still too much.
    assert_eq!(rig.sleeps(), TRIM_EVERY);
    rig.write_after(TRIM_EVERY);
    assert!(rig.sleeps() > TRIM_EVERY);
}

/// It would be read again at once.
#[test]
fn nothing_is_forgotten_of_what_a_session_waits_for() {
    let mut rig = Rig::with(|rig| rig.consumers[0].settings.max_ack_pending = 1);
    rig.insert_many(S, "a", 10);
    [ONE, TWO].into_iter().for_each(|consumer| rig.receive_one(1, consumer));
    rig.wait(2, ONE, 60 * SECOND);
    rig.rules.set_memory_budget(1);
    rig.tick();
    assert_eq!([ONE, TWO].map(|consumer| rig.ready(consumer)), [9, 0]);
}
