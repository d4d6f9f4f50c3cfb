//! The checker sees what is wrong, and only that: small histories, each of which breaks one rule, next to one like it
//! that breaks none.

use std::time::Duration;

use libtest_mimic::Trial;

use super::check;
use crate::calls::millis;
use crate::harness::trials;
use crate::torture::history::{
    Consumer, Delivery, Effect, Failure, Fault, History, Message, NEVER, Publish, Receive,
};

pub fn tests() -> Vec<Trial> {
    trials![
        a_message_that_never_comes_is_seen,
        an_empty_answer_is_judged_in_calm_only,
        a_rolled_back_message_is_seen,
        half_a_transaction_is_seen,
        a_rolled_back_ack_counts_nothing,
        two_deliveries_at_a_time_are_seen,
        a_lost_lease_is_seen,
        an_overtaken_key_is_seen,
        a_repeated_ack_id_is_seen,
        an_acked_message_that_comes_again_is_seen,
        too_many_in_flight_are_seen,
        too_many_deliveries_are_seen,
        an_error_that_nothing_explains_is_seen,
    ]
}

const ACK_WAIT: Duration = millis(1000);

/// Messages, and one consumer of them. Times are in milliseconds.
struct Scene(History);

impl Scene {
    fn new() -> Self {
        let consumer = Consumer {
            name: "c",
            ordered: true,
            prefix: "",
            max_ack_pending: 2,
            max_deliver: Some(3),
            ack_wait: ACK_WAIT,
            backoff: Duration::ZERO,
        };
        Self(History { consumers: vec![consumer], ..Default::default() })
    }

    fn unordered(mut self) -> Self {
        self.0.consumers[0].ordered = false;
        self
    }

    /// A message of this seq, which is its number, too.
    fn publish(mut self, seq: i64, key: &str, committed: u64) -> Self {
        let message = Message { number: seq, key: key.into() };
        self.0.end.stored.push((seq, message.clone()));
        self.transaction(vec![message], Effect::Yes, committed)
    }

    fn transaction(mut self, messages: Vec<Message>, committed: Effect, at: u64) -> Self {
        let (called, returned) = (millis(at - 1), millis(at));
        self.0.publishes.push(Publish { how: "publish", called, returned, committed, messages });
        self
    }

    /// Received at a moment, and never acked.
    fn forget(mut self, ack_id: i64, seq: i64, at: u64) -> Self {
        let stored = self.0.end.stored.iter().find(|(stored, _)| *stored == seq);
        let message = stored.map(|(_, message)| message.clone());
        let message = message.unwrap_or(Message { number: seq, key: "a".into() });
        let delivery = Delivery {
            ack_id,
            seq,
            key: message.key,
            number: message.number,
            deliver_count: 1,
            held_until: millis(at) + ACK_WAIT,
            free_after: millis(at + 1) + ACK_WAIT,
            finished: Effect::No,
            ending: NEVER,
            ended: NEVER,
            lost: false,
        };
        let (called, returned) = (millis(at), millis(at + 1));
        self.0.receives.push(Receive { consumer: 0, called, returned, deliveries: vec![delivery] });
        self
    }

    /// Received at a moment, and acked at another.
    fn ack(mut self, ack_id: i64, seq: i64, at: u64, ending: u64) -> Self {
        self = self.forget(ack_id, seq, at);
        let last = self.last();
        (last.ending, last.ended) = (millis(ending), millis(ending + 1));
        (last.finished, last.held_until) = (Effect::Yes, millis(ending));
        last.free_after = last.ended;
        self
    }

    fn last(&mut self) -> &mut Delivery {
        self.0.receives.last_mut().unwrap().deliveries.last_mut().unwrap()
    }

    fn change(mut self, change: impl FnOnce(&mut Delivery)) -> Self {
        change(self.last());
        self
    }

    fn empty(mut self, called: u64, returned: u64) -> Self {
        let (called, returned) = (millis(called), millis(returned));
        self.0.receives.push(Receive { consumer: 0, called, returned, deliveries: Vec::new() });
        self
    }

    fn crash(mut self, begun: u64, ended: u64) -> Self {
        let (begun, ended) = (millis(begun), millis(ended));
        self.0.faults.push(Fault { what: "crash".into(), begun, ended, crash: true });
        self
    }

    #[track_caller]
    fn is_sound(&self) {
        assert_eq!(check(&self.0).violations, [""; 0]);
    }

    #[track_caller]
    fn breaks(&self, rule: &str) {
        let violations = check(&self.0).violations;
        assert!(violations.iter().any(|line| line.starts_with(rule)), "{rule}: {violations:?}");
    }
}

fn message(number: i64) -> Message {
    Message { number, key: "a".into() }
}

fn a_message_that_never_comes_is_seen() {
    Scene::new().publish(1, "a", 10).ack(1, 1, 20, 30).is_sound();
    Scene::new().publish(1, "a", 10).breaks("I1");
    Scene::new().publish(1, "a", 10).forget(1, 1, 20).breaks("I1");
    Scene::new().publish(1, "a", 10).forget(1, 1, 20).ack(2, 1, 1100, 1110).is_sound();
    let mut dead = Scene::new().publish(1, "a", 10).forget(1, 1, 20);
    dead.0.end.dead.push((0, 1));
    dead.is_sound();
    let gone = Scene::new().transaction(vec![message(1)], Effect::Yes, 10);
    gone.breaks("I1");
}

fn an_empty_answer_is_judged_in_calm_only() {
    let free = || Scene::new().publish(1, "a", 10).ack(1, 1, 500, 510);
    free().empty(20, 100).breaks("I2");
    free().empty(5, 100).is_sound();
    free().empty(20, 505).is_sound();
    free().empty(520, 600).is_sound();
    free().crash(1, 5).empty(20, 100).is_sound();
    // The one before it is acked.
    let next = free().publish(2, "a", 10).ack(2, 2, 520, 530);
    next.empty(512, 515).breaks("I2");
    // Another message of its key is in flight: then it isn't free, but to an unordered consumer.
    let busy = || Scene::new().publish(1, "a", 1).publish(2, "a", 1).ack(1, 1, 5, 50).empty(20, 30);
    busy().ack(2, 2, 60, 70).is_sound();
    busy().ack(2, 2, 60, 70).unordered().breaks("I2");
    // As many are in flight as may be.
    let full = Scene::new().publish(1, "a", 1).publish(2, "b", 1).publish(3, "c", 1);
    let full = full.ack(1, 1, 5, 50).ack(2, 2, 5, 50).ack(3, 3, 60, 70);
    full.empty(20, 30).is_sound();
}

fn a_rolled_back_message_is_seen() {
    let stored = |committed| {
        let mut scene = Scene::new().transaction(vec![message(1)], committed, 10);
        scene.0.end.stored.push((1, message(1)));
        scene.ack(1, 1, 20, 30)
    };
    stored(Effect::No).breaks("I3");
    stored(Effect::Perhaps).is_sound();
    stored(Effect::Yes).is_sound();
    // Delivered, and nowhere stored.
    Scene::new().transaction(vec![message(1)], Effect::No, 10).ack(1, 1, 20, 30).breaks("I3");
}

fn half_a_transaction_is_seen() {
    let half = |committed| {
        let messages = vec![message(1), message(2)];
        let mut scene = Scene::new().transaction(messages, committed, 10);
        scene.0.end.stored.push((1, message(1)));
        scene.ack(1, 1, 20, 30)
    };
    half(Effect::Perhaps).breaks("I3");
    half(Effect::Yes).breaks("I1");
}

fn a_rolled_back_ack_counts_nothing() {
    let mut effect = Scene::new().publish(1, "a", 10).forget(1, 1, 20).ack(2, 1, 1100, 1110);
    effect.0.end.effects.push((0, 1));
    effect.is_sound();
    let mut effect = Scene::new().publish(1, "a", 10).forget(1, 1, 20);
    effect.0.end.effects.push((0, 1));
    effect.breaks("I3");
}

fn two_deliveries_at_a_time_are_seen() {
    let twice = || Scene::new().publish(1, "a", 10).forget(1, 1, 20).ack(2, 1, 900, 910);
    twice().breaks("I4");
    twice().unordered().breaks("I4");
    twice().crash(500, 600).is_sound();
    let keys = || Scene::new().publish(1, "a", 10).publish(2, "a", 10).ack(1, 1, 20, 100);
    keys().ack(2, 2, 90, 95).breaks("I5");
    keys().ack(2, 2, 100, 110).is_sound();
    keys().ack(2, 2, 90, 95).unordered().is_sound();
}

fn a_lost_lease_is_seen() {
    let lost = || {
        let lost = Scene::new().publish(1, "a", 10).forget(1, 1, 20);
        let lost = lost.change(|delivery| {
            (delivery.ending, delivery.ended, delivery.lost) = (millis(50), millis(51), true);
            delivery.held_until = millis(21);
        });
        lost.ack(2, 1, 100, 110)
    };
    lost().breaks("I4");
    lost().crash(30, 40).is_sound();
}

fn an_overtaken_key_is_seen() {
    let both = |committed, second| {
        let scene = Scene::new().publish(1, "a", committed).publish(2, "a", 10);
        scene.ack(2, 2, 20, 30).ack(1, 1, second, second + 10)
    };
    both(10, 50).breaks("I5");
    both(25, 50).is_sound();
    both(10, 50).unordered().is_sound();
}

fn a_repeated_ack_id_is_seen() {
    let scene = || Scene::new().publish(1, "a", 10).publish(2, "b", 10).ack(1, 1, 20, 30);
    scene().ack(1, 2, 40, 50).breaks("I6");
    scene().ack(2, 2, 40, 50).is_sound();
}

fn an_acked_message_that_comes_again_is_seen() {
    let acked = || Scene::new().publish(1, "a", 10).ack(1, 1, 20, 30);
    acked().forget(2, 1, 50).breaks("I7");
    acked().crash(35, 40).forget(2, 1, 50).breaks("I7");
    // Two workers' acks took effect.
    acked().ack(2, 1, 25, 40).breaks("I7");
    let mut twice = acked();
    twice.0.end.effects.extend([(0, 1), (0, 1)]);
    twice.breaks("I7");
}

fn too_many_in_flight_are_seen() {
    let three = |third| {
        let scene = Scene::new().publish(1, "a", 1).publish(2, "b", 1).publish(3, "c", 1);
        scene.ack(1, 1, 5, 50).ack(2, 2, 5, 50).ack(3, 3, third, 70)
    };
    three(40).breaks("I8");
    three(50).is_sound();
}

fn too_many_deliveries_are_seen() {
    let count = |count| {
        let scene = Scene::new().publish(1, "a", 1).ack(1, 1, 5, 50);
        scene.change(|delivery| delivery.deliver_count = count)
    };
    count(3).is_sound();
    count(4).breaks("a message came more often");
    count(0).breaks("a message came more often");
}

fn an_error_that_nothing_explains_is_seen() {
    let failed = |sqlstate: Option<&str>| {
        let mut scene = Scene::new();
        let sqlstate = sqlstate.map(str::to_owned);
        let (at, message) = (millis(1), String::new());
        scene.0.errors.push(Failure { at, what: "ack", sqlstate, message });
        scene
    };
    failed(Some("XX000")).breaks("an error");
    failed(Some("57P01")).is_sound();
    failed(None).is_sound();
}
