//! When a stream's table is read: as often as somebody needs it, and no more.

use super::super::reading::{READS_PER_TURN, RETRY_ASKED, RETRY_FAILED, RETRY_LOCKED};
use super::*;

fn error() -> Failure {
    Failure::Error { text: "could not read block 7".into(), is_lock: false }
}

#[test]
fn who_waits_has_the_table_read_when_somebody_publishes_and_who_cant_wait_at_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.receive(1, ONE), []);
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    let looks = rig.looks;
    rig.wait(2, ONE, 60 * SECOND);
    rig.rest(SECOND);
    assert_eq!(rig.looks, looks);
    // It is committed, and not announced yet.
    rig.insert(S, &["a"]);
    assert_eq!(rig.receive_few(3, TWO, 1), [1]);
    assert_eq!(rig.seqs(waiting), [1], "what is read is for all");
    rig.insert(S, &["b"]);
    assert_eq!(rig.receive_few(3, TWO, 1), [2]);
}

#[test]
fn one_look_is_for_all_who_wait() {
    let mut rig = Rig::new();
    let waiting = [rig.wait(1, ONE, 60 * SECOND), rig.wait(2, TWO, 60 * SECOND)];
    let looks = rig.looks;
    rig.publish(S, &["a"]);
    assert_eq!(rig.looks, looks + 1);
    waiting.iter().for_each(|&id| assert_eq!(rig.seqs(id), [1]));
}

#[test]
fn a_consumer_that_is_far_behind_gives_the_others_their_turn() {
    let mut rig = Rig::new();
    rig.consumer_config(ONE).filters = vec!["wanted".into()];
    rig.change(Changes::everything());
    rig.limit = 1;
    rig.insert(S, &["a"; 2 * READS_PER_TURN + 1]);
    rig.insert(S, &["wanted"]);
    // It is brought in, and nothing is read for it.
    rig.post(9, Request::InFlight { consumer: ONE, after: AckId(0) });
    assert_eq!(rig.ranges, 0);
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    for turn in 1..=3 {
        assert_eq!(rig.ranges, (turn * READS_PER_TURN).min(2 * READS_PER_TURN + 2));
        if turn < 3 {
            assert_eq!(rig.answer_to(waiting), None);
            assert_eq!(rig.rules.wake_at(), 0, "it has more to read");
            rig.step();
        }
    }
    assert_eq!(rig.seqs(waiting), [2 * READS_PER_TURN as Seq + 2]);
}

#[test]
fn a_locked_table_is_tried_again_soon_for_those_who_wait() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    rig.failing = Some((S, Failure::Locked));
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    let looks = rig.looks;
    rig.sleep(RETRY_LOCKED - 1);
    assert_eq!(rig.looks, looks);
    for tries in 1..=10 {
        rig.sleep(RETRY_LOCKED);
        assert_eq!(rig.looks, looks + tries);
    }
    assert_eq!(rig.last_error(ONE), None, "it is somebody's lock");
    rig.failing = None;
    rig.insert(S, &["a"]);
    rig.after(RETRY_LOCKED);
    assert_eq!(rig.seqs(waiting), [1]);
}

#[test]
fn a_table_that_cant_be_read_is_tried_again_later_and_is_the_last_error() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    rig.receive(1, THREE);
    rig.failing = Some((S, error()));
    rig.insert(S, &["a"]);
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    let looks = rig.looks;
    rig.step();
    assert_eq!(rig.last_error(ONE).unwrap(), "cannot read stream \"s\": could not read block 7");
    assert!(rig.stats(ONE).has_error && !rig.stats(TWO).has_error);
    rig.sleep(RETRY_FAILED - 1);
    assert_eq!(rig.looks, looks);
    assert_eq!(rig.answer_to(waiting), None);
    let log = "consumer \"one\": cannot read stream \"s\": could not read block 7".to_owned();
    assert!(rig.after(1).contains(&Effect::Log(log)));
    assert_eq!(rig.looks, looks + 1);
    rig.sleep(2 * RETRY_FAILED - 1);
    assert_eq!(rig.looks, looks + 2);
    rig.failing = None;
    rig.sleep(1);
    assert_eq!(rig.seqs(waiting), [1]);
}

/// A session that can't wait asks again and again until it gives up.
#[test]
fn a_table_that_cant_be_read_is_not_tried_for_each_who_asks() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    rig.failing = Some((S, error()));
    let receive = |rig: &mut Rig| {
        let id = rig.wait(1, ONE, 0);
        rig.answer_to(id).unwrap().clone()
    };
    let looks = rig.looks;
    assert_eq!(receive(&mut rig), Answer::NotNow);
    assert_eq!(rig.looks, looks + 1);
    rig.clock.mono += RETRY_ASKED - 1;
    assert_eq!(receive(&mut rig), Answer::NotNow);
    assert_eq!(rig.looks, looks + 1);
    rig.clock.mono += 1;
    assert_eq!(receive(&mut rig), Answer::NotNow);
    assert_eq!(rig.looks, looks + 2);
    rig.failing = None;
    rig.insert(S, &["a"]);
    rig.clock.mono += RETRY_ASKED;
    assert_eq!(rig.receive(1, ONE).len(), 1);
    // It is well again: nobody has to wait for another try.
    rig.insert(S, &["b"]);
    assert_eq!(rig.receive(1, ONE).len(), 1);
}

/// Though there is enough to be given out that was loaded before.
#[test]
fn what_has_just_been_committed_below_comes_first() {
    let mut rig = Rig::new();
    rig.memory.publishers = vec![Publisher { session: 5, transaction: 1, bound: 1 }];
    let row = |seq, key: &str| Row { seq, key: key.into() };
    rig.messages.insert(S, vec![row(2, "a"), row(3, "b")]);
    assert_eq!(rig.receive_few(1, ONE, 1), [2]);
    rig.memory.publishers.clear();
    rig.messages.insert(S, vec![row(1, "b"), row(2, "a"), row(3, "b")]);
    assert_eq!(rig.receive_few(2, ONE, 1), [1]);
    assert_eq!(rig.receive_few(3, ONE, 1), []);
}

#[test]
fn what_is_loaded_is_given_out_though_the_table_is_locked() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c"]);
    assert_eq!(rig.receive_few(1, ONE, 1), [1]);
    rig.failing = Some((S, Failure::Locked));
    assert_eq!(rig.receive_few(2, ONE, 10), [2, 3]);
    let id = rig.wait(3, ONE, 0);
    assert_eq!(rig.answer_to(id), Some(&Answer::NotNow));
}

#[test]
fn all_who_wait_for_a_stream_have_their_turn_when_it_is_read_again_and_no_others() {
    let mut rig = Rig::new();
    [ONE, TWO, THREE].into_iter().for_each(|id| drop(rig.receive(9, id)));
    let others = rig.wait(3, THREE, 60 * SECOND);
    rig.failing = Some((S, Failure::Locked));
    let first = rig.wait(1, ONE, 60 * SECOND);
    rig.insert(S, &["a"]);
    rig.insert(T, &["a"]);
    rig.failing = None;
    assert_eq!(rig.receive_few(2, TWO, 10), [1]);
    assert_eq!(rig.seqs(first), [1]);
    assert_eq!(rig.answer_to(others), None);
}

/// Of a stream that nobody reads any more, it is not known when it is unlocked, and nobody cares.
#[test]
fn a_locked_table_is_not_tried_again_for_a_consumer_that_is_paused() {
    let mut rig = Rig::new();
    rig.consumer_config(TWO).settings.paused = true;
    rig.change(Changes::everything());
    rig.receive(1, ONE);
    rig.receive(2, TWO);
    rig.failing = Some((S, Failure::Locked));
    rig.wait(2, TWO, 4 * SECOND);
    rig.rest(SECOND);
    rig.wait(1, ONE, 60 * SECOND);
    rig.rest(SECOND);
    rig.roll_back(1);
    rig.after(RETRY_LOCKED);
    assert!(rig.rules.wake_at() > rig.clock.mono, "it would spin");
    rig.rest(SECOND / 2);
    assert_eq!(rig.rules.wake_at(), 1004 * SECOND);
}

#[test]
fn who_reads_to_the_end_of_what_was_published_is_not_read_for_again() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    rig.limit = 2;
    rig.insert(S, &["a", "b", "c", "d", "e"]);
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    // Not all is read at once, and what comes next is read when it is wanted.
    assert_eq!(rig.seqs(waiting).len(), 5);
    rig.wait(1, ONE, 60 * SECOND);
    let looks = rig.looks;
    rig.wait(2, ONE, 60 * SECOND);
    assert_eq!(rig.looks, looks);
}

#[test]
fn a_wait_that_ends_while_a_consumer_catches_up_is_over() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(9, ONE);
    let waiting = rig.wait(1, ONE, SECOND);
    rig.rest(SECOND * 9 / 10);
    // It has to read again from what is in flight on.
    rig.consumer_config(ONE).filters = vec!["c".into()];
    rig.give(Input::ConfigChanged);
    rig.ranges = 0;
    rig.after(SECOND / 10);
    assert_eq!(rig.ranges, 1);
    assert_eq!(rig.answer_to(waiting), Some(&Answer::empty()));
    assert!(rig.rules.wake_at() > rig.clock.mono, "it would spin");
}
