//! What happens is written within a tenth of a second, in as few transactions as can be, and once.

use super::super::journal::{CHECKPOINT_EVERY, MAX_UNWRITTEN, PATIENCE, RETRY_AFTER, WRITE_AFTER};
use super::write_steps::*;
use super::*;

fn seqs(received: &[(Seq, AckId)]) -> Vec<Seq> {
    received.iter().map(|&(seq, _)| seq).collect()
}

#[test]
fn a_dispatcher_that_has_nothing_to_do_sleeps_until_something_comes_in() {
    assert_eq!(Rig::new().rules.wake_at(), Micros::MAX);
}

#[test]
fn what_happens_within_a_tenth_of_a_second_is_written_in_one_transaction() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    assert_eq!(rig.sleeps(), WRITE_AFTER);
    assert_eq!(rig.after(WRITE_AFTER / 2), []);
    rig.receive(2, TWO);
    assert_eq!(rig.after(WRITE_AFTER / 2 - 1), []);
    let effects = rig.after(1);
    assert_eq!(journals(&effects), [[ONE, TWO]]);
    assert_eq!((rig.rules.unwritten(ONE).len(), rig.rules.unwritten(TWO).len()), (1, 1));
    assert_eq!(rig.journalled(&[ONE, TWO], Ok(true)), []);
    // Next it is looked for checkpoints that are due.
    assert_eq!(rig.sleeps(), CHECKPOINT_EVERY - WRITE_AFTER);
    assert!(rig.rules.unwritten(ONE).is_empty() && rig.rules.unwritten(TWO).is_empty());
}

#[test]
fn an_event_is_written_once_however_long_that_takes() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    let received = rig.receive(1, ONE);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[ONE]]);
    let meanwhile = rig.after(WRITE_AFTER);
    assert_eq!(journals(&meanwhile), [[]; 0]);
    rig.journalled(&[ONE], Ok(true));
    let later = rig.after(WRITE_AFTER);
    assert_eq!(journals(&later), [[]; 0]);
    rig.extend(ONE, received[0].1, 1);
    let again = rig.after(WRITE_AFTER);
    assert_eq!(journals(&again), [[]; 0]);
    let again = rig.after(WRITE_AFTER);
    assert_eq!(journals(&again), [[ONE]]);
    assert_eq!(rig.rules.unwritten(ONE).len(), 1);
}

#[test]
fn deliveries_that_are_finished_by_then_are_not_written() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    let received = rig.receive(1, ONE);
    rig.finish_and_commit(1, ONE, &received);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[]; 0]);
    assert!(rig.rules.unwritten(ONE).is_empty());
    // Nor is it tried over and over again.
    assert_eq!(rig.sleeps(), CHECKPOINT_EVERY - WRITE_AFTER);
}

#[test]
fn deliveries_are_written_as_long_as_one_of_their_messages_is_unfinished() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    let received = rig.receive(1, ONE);
    rig.finish_and_commit(1, ONE, &received[..1]);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[ONE]]);
}

#[test]
fn a_journal_that_is_locked_is_shown_and_written_a_little_later() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[ONE]]);
    let told = rig.journalled(&[ONE], Ok(false));
    assert_eq!(told, [Effect::Status("cannot write the journal: locked".into())]);
    let waited = CHECKPOINT_EVERY - WRITE_AFTER;
    assert_eq!(rig.after(waited), []);
    assert_eq!(rig.sleeps(), RETRY_AFTER - waited);
    assert_eq!(rig.after(RETRY_AFTER - waited - 1), []);
    let effects = rig.after(1);
    assert_eq!(journals(&effects), [[ONE]]);
    let told = rig.journalled(&[ONE], Err(full_disk()));
    assert_eq!(told, [Effect::Log("cannot write the journal: disk full".into())]);
    rig.after(RETRY_AFTER - 1);
    let effects = rig.after(1);
    assert_eq!(journals(&effects), [[ONE]]);
    assert_eq!(rig.rules.unwritten(ONE).len(), 1);
}

/// Their messages are read from a stream that may be locked, or broken.
#[test]
fn a_consumer_with_dead_letters_is_written_by_itself_and_delays_no_other() {
    let mut rig = Rig::with(|rig| rig.consumers[0].settings.max_deliver = Some(1));
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    rig.roll_back(1);
    rig.receive(2, TWO);
    assert_eq!(rig.rules.dead_letters(ONE).map(|item| item.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(rig.rules.dead_letters(TWO).count(), 0);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[TWO], [ONE]]);
    rig.journalled(&[ONE], Err(full_disk()));
    rig.journalled(&[TWO], Ok(true));
    assert!(rig.rules.unwritten(TWO).is_empty());
    rig.after(RETRY_AFTER - 1);
    let effects = rig.after(1);
    assert_eq!(journals(&effects), [[ONE]]);
    assert_eq!(rig.rules.dead_letters(ONE).count(), 1);
}

/// The table is read before the events are written that were due at the same time, and whoever waits gets what was
/// found.
#[test]
fn what_is_handed_out_before_a_write_is_carried_out_is_written_in_time() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    let waiting = rig.wait(2, THREE, 60 * SECOND);
    rig.insert(T, &["a"]);
    rig.give(Input::Published(vec![T]));
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(seqs(&rig.deliveries(waiting)), [1]);
    assert_eq!(journals(&effects), [[ONE]]);
    rig.journalled(&[ONE], Ok(true));
    assert_eq!(rig.sleeps(), WRITE_AFTER);
    let effects = rig.after(WRITE_AFTER);
    assert_eq!(journals(&effects), [[THREE]]);
}

/// A consumer with so many unwritten events, which nobody can write.
fn behind(events: usize) -> Rig {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    let ack_id = rig.receive(1, ONE)[0].1;
    rig.commit(1);
    rig.insert(S, &["b"]);
    rig.extend(ONE, ack_id, events - 1);
    assert_eq!(rig.rules.unwritten(ONE).len(), 1);
    rig.tick();
    assert_eq!(rig.rules.unwritten(ONE).len(), events);
    rig
}

#[test]
fn a_consumer_whose_journal_cannot_be_written_hands_out_nothing_until_it_is() {
    let mut rig = behind(MAX_UNWRITTEN + 1);
    let effects = rig.after(PATIENCE + 1);
    assert_eq!(journals(&effects), [[ONE]]);
    let refused = rig.wait(2, ONE, 0);
    assert_eq!(rig.answer_to(refused), Some(&Answer::NotNow));
    // Its own bound, which stops no other.
    assert_eq!(seqs(&rig.receive(3, TWO)), [1, 2]);
    let waiting = rig.wait(4, ONE, 60 * SECOND);
    rig.after(SECOND);
    assert_eq!(rig.answer_to(waiting), None);
    rig.journalled(&[ONE], Ok(true));
    assert!(rig.sleeps() <= 0);
    rig.tick();
    assert_eq!(seqs(&rig.deliveries(waiting)), [2]);
}

#[test]
fn many_events_or_a_long_wait_alone_keep_nothing_back() {
    for (events, wait) in [(MAX_UNWRITTEN, PATIENCE + 1), (MAX_UNWRITTEN + 1, PATIENCE)] {
        let mut rig = behind(events);
        rig.after(wait);
        assert_eq!(seqs(&rig.receive(2, ONE)), [2]);
    }
}

/// What was finished in time was never written, and so it can't be late.
#[test]
fn events_are_late_only_when_they_have_been_unwritten_for_long_themselves() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    let received = rig.receive(1, ONE);
    rig.finish_and_commit(1, ONE, &received);
    rig.after(WRITE_AFTER);
    rig.after(PATIENCE);
    rig.insert(S, &["b"]);
    let ack_id = rig.receive(1, ONE)[0].1;
    rig.insert(S, &["c"]);
    rig.extend(ONE, ack_id, MAX_UNWRITTEN);
    rig.tick();
    assert_eq!(seqs(&rig.receive(2, ONE)), [3]);
}
