//! Sessions that wait, and the dispatcher that sleeps meanwhile: it wakes when a wait ends, or somebody publishes to a
//! stream that somebody waits for, and for nothing else.

use super::super::COLLECT_EVERY;
use super::*;

#[test]
fn with_nothing_to_do_it_sleeps() {
    let mut rig = Rig::new();
    assert_eq!(rig.step(), []);
    assert_eq!(rig.rules.wake_at(), Micros::MAX);
}

#[test]
fn it_wakes_when_a_wait_ends_and_not_before() {
    let mut rig = Rig::new();
    let first = rig.wait(1, ONE, 2 * SECOND);
    let second = rig.wait(2, ONE, 4 * SECOND);
    rig.rest(SECOND);
    assert_eq!(rig.rules.wake_at(), rig.in_time(SECOND));
    rig.after(SECOND - 1);
    assert_eq!(rig.answer_to(first), None);
    // What is looked for again and again, such as checkpoints, is not due now.
    rig.receive(3, THREE);
    rig.step();
    rig.after(1);
    assert_eq!(rig.answer_to(first), Some(&Answer::empty()));
    assert_eq!(rig.answer_to(second), None);
    assert!(rig.rules.wake_at() > rig.clock.mono, "it would spin");
    rig.rest(SECOND);
    assert_eq!(rig.rules.wake_at(), rig.in_time(SECOND));
    rig.after(SECOND);
    assert_eq!(rig.answer_to(second), Some(&Answer::empty()));
}

#[test]
fn those_who_wait_for_a_consumer_are_counted() {
    let mut rig = Rig::new();
    for waiting in 0..3 {
        assert_eq!(rig.stats(ONE).waiting, waiting);
        rig.wait(waiting as SessionId, ONE, 60 * SECOND);
    }
    rig.roll_back(1);
    assert_eq!(rig.stats(ONE).waiting, 2);
    rig.publish(S, &["a"]);
    assert_eq!(rig.stats(ONE).waiting, 1);
    assert_eq!(rig.stats(TWO).waiting, 0);
}

/// They wake it only while somebody waits.
#[test]
fn ends_of_transactions_are_looked_for_once_a_second_while_nobody_waits() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    rig.rest(2 * SECOND);
    assert_eq!(rig.rules.wake_at(), rig.in_time(COLLECT_EVERY));
    rig.wait(2, ONE, 2 * SECOND);
    rig.rest(SECOND / 2);
    assert_eq!(rig.rules.wake_at(), rig.in_time(SECOND * 3 / 2));
}

#[test]
fn nothing_is_looked_for_when_no_transaction_has_anything_open() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    let (_, ack_id) = rig.receive(1, ONE)[0];
    assert_eq!(rig.finish(1, ONE, &[ack_id]), [ack_id]);
    assert!(!rig.rules.sessions.is_empty());
    rig.commit(1);
    assert!(rig.rules.sessions.is_empty());
    rig.rest(2 * SECOND);
    assert!(rig.rules.wake_at() > rig.in_time(COLLECT_EVERY));
}

#[test]
fn sessions_are_told_once_that_their_ends_wake_it_and_it_looks_for_those_just_before() {
    let mut rig = Rig::new();
    rig.wait(1, ONE, SECOND);
    assert_eq!(rig.memory.told_waited_for, [true]);
    assert_eq!(rig.rules.wake_at(), 0, "some may have ended just before");
    rig.step();
    assert!(rig.rules.wake_at() > rig.clock.mono);
    rig.wait(2, THREE, SECOND);
    rig.rest(SECOND / 2);
    assert_eq!(rig.memory.told_waited_for, [true]);
    rig.rest(SECOND);
    assert_eq!(rig.memory.told_waited_for, [true, false]);
}

#[test]
fn a_stream_wakes_it_until_somebody_publishes_to_it_while_nobody_waits() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    assert_eq!(rig.memory.listening, [], "who can't wait needs nobody to wake it");
    rig.wait(1, ONE, 60 * SECOND);
    rig.wait(2, THREE, 60 * SECOND);
    rig.wait(3, TWO, 60 * SECOND);
    assert_eq!((&rig.memory.listening[..], rig.memory.listened), (&[S, T][..], 2));
    // A worker that has got a message is mostly back at once.
    rig.roll_back(2);
    rig.publish(S, &["a"]);
    assert_eq!((&rig.memory.listening[..], rig.memory.listened), (&[S, T][..], 2));
    rig.publish(T, &["a"]);
    assert_eq!((&rig.memory.listening[..], rig.memory.listened), (&[S][..], 3));
    rig.publish(T, &["b"]);
    assert_eq!(rig.memory.listened, 3);
    rig.publish(S, &["b"]);
    assert_eq!((&rig.memory.listening[..], rig.memory.listened), (&[][..], 4));
}

#[test]
fn it_wants_to_know_who_publishes_to_what_has_been_read_to_its_end_and_to_what_is_waited_for() {
    let mut rig = Rig::new();
    let watched = |rig: &Rig| rig.rules.watched().collect::<Vec<_>>();
    assert_eq!(watched(&rig), []);
    rig.receive(1, ONE);
    assert_eq!(watched(&rig), [S]);
    rig.publish(S, &["a"]);
    assert_eq!(watched(&rig), []);
    rig.receive(1, THREE);
    rig.failing = Some((T, Failure::Locked));
    rig.publish(T, &["a"]);
    rig.wait(2, THREE, 60 * SECOND);
    assert_eq!(watched(&rig), [T]);
}
