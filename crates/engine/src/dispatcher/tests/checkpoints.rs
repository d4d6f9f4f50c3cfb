//! A consumer is saved when enough has happened: not so often that this would be most of the work, and not so seldom
//! that the next dispatcher would have much to replay.

use super::super::journal::{
    CHECKPOINT_AFTER, CHECKPOINT_AT_LAST, CHECKPOINT_EVERY, CHECKPOINTS_PER_STEP, CURSOR_STEP,
    RETRY_AFTER,
};
use super::super::memory::IDLE_AFTER;
use super::write_steps::*;
use super::*;
use crate::event::Event;

const SAVED: Input = Input::Checkpointed(Ok(true));

/// One message of `s` is there, and each of these consumers has received it.
fn received_by(consumers: &[ConsumerId]) -> Rig {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    for &consumer in consumers {
        rig.receive(1, consumer);
        rig.commit(1);
    }
    rig
}

#[test]
fn a_consumer_is_saved_once_a_second_at_most() {
    for (wait, expected) in [(CHECKPOINT_AFTER - 1, vec![]), (CHECKPOINT_AFTER, vec![ONE])] {
        let mut rig = received_by(&[ONE]);
        assert_eq!(rig.write_after(wait), expected);
        // If not, it is looked at again soon.
        assert_eq!(rig.sleeps() == CHECKPOINT_EVERY, expected.is_empty());
    }
    let mut rig = received_by(&[ONE]);
    assert_eq!(rig.write_after(CHECKPOINT_AFTER), [ONE]);
    let [lease] = rig.in_flight(ONE)[..] else { panic!("nothing in flight") };
    rig.extend(ONE, lease.ack_id, 10);
    assert_eq!(rig.write_after(CHECKPOINT_AFTER - 1), []);
    assert_eq!(rig.write_after(CHECKPOINT_EVERY), [ONE]);
}

#[test]
fn a_consumer_that_has_done_nothing_is_not_saved() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    assert_eq!(rig.sleeps(), IDLE_AFTER);
    assert_eq!(rig.write_for(2 * SECOND), []);
}

#[test]
fn once_all_is_saved_nothing_is_looked_through() {
    let mut rig = received_by(&[ONE]);
    assert_eq!(rig.write_after(CHECKPOINT_AFTER), [ONE]);
    assert_eq!(rig.sleeps(), COLLECT_EVERY);
    assert_eq!(rig.write_for(2 * SECOND), []);
}

#[test]
fn a_checkpoint_that_takes_long_is_not_written_twice() {
    let mut rig = received_by(&[ONE]);
    assert_eq!(checkpoints(&rig.after(CHECKPOINT_AFTER)), [ONE]);
    rig.journalled(&[ONE], Ok(true));
    assert_eq!(rig.after(CHECKPOINT_EVERY), []);
    assert_eq!(rig.give(SAVED), []);
    assert_eq!(rig.after(CHECKPOINT_EVERY), []);
}

#[test]
fn checkpoints_are_written_one_after_the_other() {
    let mut rig = received_by(&[ONE, TWO]);
    assert_eq!(checkpoints(&rig.after(CHECKPOINT_AFTER)), [ONE]);
    assert_eq!(checkpoints(&rig.give(SAVED)), [TWO]);
    assert_eq!(rig.give(SAVED), []);
}

/// More consumers than are saved in one step, and all have something to be saved.
fn many() -> Rig {
    let mut rig = Rig::with(|rig| {
        let like = rig.consumers[0].clone();
        let numbers = 1..=i32::try_from(CHECKPOINTS_PER_STEP).unwrap() + 1;
        let consumer = |n| ConsumerConfig { id: ConsumerId(n), ..like.clone() };
        rig.consumers = numbers.map(consumer).collect();
    });
    rig.insert(S, &["a"]);
    for consumer in rig.consumers.iter().map(|config| config.id).collect::<Vec<_>>() {
        rig.receive(1, consumer);
        rig.commit(1);
    }
    rig
}

#[test]
fn requests_have_their_turn_when_some_checkpoints_have_been_written() {
    let mut rig = many();
    assert_eq!(rig.write_after(CHECKPOINT_AFTER).len(), CHECKPOINTS_PER_STEP);
    assert!(rig.sleeps() <= 0);
    assert_eq!(rig.write_after(0).len(), 1);
    assert!(rig.sleeps() > 0);
}

#[test]
fn before_the_dispatcher_ends_everything_is_written() {
    let mut rig = many();
    let effects = rig.give(Input::Flush);
    assert_eq!(journals(&effects).concat().len(), CHECKPOINTS_PER_STEP + 1);
    assert_eq!(rig.write(effects).len(), CHECKPOINTS_PER_STEP + 1);
    let effects = rig.give(Input::Flush);
    assert_eq!(effects, []);
}

/// A consumer whose checkpoint, which was just written, has eight deliveries in flight and the row of sequin.acks that
/// their receiver's transaction may write. The deliveries.
fn with_a_large_checkpoint() -> (Rig, Vec<(Seq, AckId)>) {
    let mut rig = Rig::with(|rig| rig.consumers[0].settings.ack_wait = 3600 * SECOND);
    rig.insert(S, &["a", "b", "c", "d", "e", "f", "g", "h"]);
    let received = rig.receive(1, ONE);
    assert_eq!(rig.write_after(CHECKPOINT_AFTER), [ONE]);
    rig.commit(1);
    (rig, received)
}

/// Of whatever kind: events that are written, those that aren't, and acks.
#[test]
fn a_large_checkpoint_is_written_again_when_there_is_as_much_to_replay() {
    let (mut rig, received) = with_a_large_checkpoint();
    rig.extend(ONE, received[0].1, 1);
    assert_eq!(rig.write_for(SECOND), []);
    rig.finish_and_commit(2, ONE, &received[1..2]);
    assert_eq!(rig.write_for(2 * SECOND), []);
    rig.extend(ONE, received[2].1, 1);
    assert_eq!(rig.write_after(CHECKPOINT_EVERY), [ONE]);
}

#[test]
fn whatever_has_changed_is_saved_after_a_minute() {
    for (wait, expected) in [(CHECKPOINT_AT_LAST - 1, vec![]), (CHECKPOINT_AT_LAST, vec![ONE])] {
        let (mut rig, received) = with_a_large_checkpoint();
        rig.extend(ONE, received[0].1, 1);
        assert_eq!(rig.write_after(wait), expected);
    }
}

#[test]
fn a_cursor_is_saved_when_it_has_moved_far() {
    const START: Seq = 60_000;
    for (moved, expected) in [(CURSOR_STEP - 1, vec![]), (CURSOR_STEP, vec![ONE])] {
        let mut rig = Rig::with(|rig| {
            rig.consumers[0].filters = vec!["other".into()];
            rig.consumers[0].start_after = START;
        });
        rig.messages.insert(S, vec![Row { seq: START, key: "a".into() }]);
        rig.receive(1, ONE);
        rig.messages.insert(S, vec![Row { seq: START + moved, key: "a".into() }]);
        assert_eq!(rig.receive(1, ONE), []);
        assert_eq!(rig.write_for(2 * SECOND), expected);
        // From then on it is as far again.
        rig.messages.insert(S, vec![Row { seq: START + 2 * CURSOR_STEP - 1, key: "a".into() }]);
        assert_eq!(rig.receive(1, ONE), []);
        assert_eq!(rig.write_for(2 * SECOND).is_empty(), !expected.is_empty());
    }
}

/// Those rows may still be committed when there is another dispatcher, which has to find them.
#[test]
fn a_checkpoint_has_the_rows_of_open_transactions_and_takes_the_place_of_what_it_contains() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c"]);
    let received = rig.receive(1, ONE);
    let acked = rig.ask_to_finish(2, ONE, &received[..1]);
    rig.insert(S, &["d"]);
    let last = rig.wait(3, ONE, 0);
    let granted = rig.ack_row_of(last);
    rig.receive(4, TWO);
    let effects = rig.after(CHECKPOINT_AFTER);
    let (first, replaces, folded) = checkpoint_of(&effects, ONE);
    let mut open = first.open_acks.clone();
    open.sort_unstable();
    assert_eq!(open, [acked.min(granted), acked.max(granted)]);
    assert_eq!((first.state.active.len(), replaces, folded), (4, 0, vec![]));
    rig.write(effects);
    rig.commit(2);
    rig.extend(ONE, received[1].1, 1);
    let effects = rig.after(CHECKPOINT_AFTER);
    let (second, replaces, folded) = checkpoint_of(&effects, ONE);
    assert_eq!((&second.open_acks[..], second.state.active.len()), (&[granted][..], 3));
    assert_eq!((replaces, folded), (first.id, vec![(acked, acked)]));
    rig.write(effects);
    // They are deleted once.
    let effects = rig.give(Input::Flush);
    assert_eq!(checkpoints(&effects), [ONE; 0]);
}

fn checkpoint_of(
    effects: &[Effect],
    of: ConsumerId,
) -> (Checkpoint, i64, Vec<(AckRowId, AckRowId)>) {
    let checkpoint = |effect: &Effect| match effect {
        Effect::Checkpoint { consumer, checkpoint, replaces, folded_acks, .. } => {
            (*consumer == of).then(|| (checkpoint.clone(), *replaces, folded_acks.clone()))
        }
        _ => None,
    };
    effects.iter().find_map(checkpoint).unwrap()
}

#[test]
fn what_happens_while_a_checkpoint_is_written_goes_to_the_journal_and_nothing_before_it() {
    let mut rig = received_by(&[ONE]);
    let effects = rig.after(CHECKPOINT_AFTER);
    let (checkpoint, ..) = checkpoint_of(&effects, ONE);
    rig.journalled(&[ONE], Ok(false));
    let [lease] = rig.in_flight(ONE)[..] else { panic!("nothing in flight") };
    rig.extend(ONE, lease.ack_id, 1);
    rig.tick();
    assert_eq!(rig.rules.unwritten(ONE).len(), 2);
    rig.give(SAVED);
    let later = |event: &Event| event.id > checkpoint.id;
    assert_eq!(rig.rules.unwritten(ONE).len(), 1);
    assert!(rig.rules.unwritten(ONE).iter().all(later));
    assert_eq!(journals(&rig.after(RETRY_AFTER)), [[ONE]]);
}

#[test]
fn what_a_checkpoint_contains_is_not_written_to_the_journal() {
    let mut rig = received_by(&[ONE]);
    assert_eq!(journals(&rig.after(CHECKPOINT_AFTER)), [[ONE]]);
    rig.journalled(&[ONE], Ok(false));
    rig.give(SAVED);
    assert_eq!(rig.write_for(SECOND), []);
    assert!(rig.rules.unwritten(ONE).is_empty());
}

#[test]
fn a_checkpoint_that_has_waited_for_a_lock_puts_off_the_others() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    for consumer in [ONE, TWO] {
        rig.receive(1, consumer);
        rig.roll_back(1);
    }
    assert_eq!(checkpoints(&rig.after(CHECKPOINT_AFTER)), [ONE]);
    rig.journalled(&[ONE, TWO], Ok(true));
    let failure = Failure::Error { text: "lock timeout".into(), is_lock: true };
    let text = "cannot write a checkpoint: lock timeout";
    let told = rig.give(Input::Checkpointed(Err(failure)));
    assert_eq!(told, [Effect::Log(format!("consumer \"one\": {text}"))]);
    assert_eq!(rig.last_error(ONE).as_deref(), Some(text));
    assert_eq!(rig.sleeps(), CHECKPOINT_AFTER);
    assert_eq!(rig.after(CHECKPOINT_AFTER - 1), []);
    assert_eq!(rig.write_after(1), [ONE, TWO]);
}

#[test]
fn a_checkpoint_that_fails_otherwise_keeps_no_other_from_being_written() {
    let mut rig = received_by(&[ONE, TWO]);
    assert_eq!(checkpoints(&rig.after(CHECKPOINT_AFTER)), [ONE]);
    rig.journalled(&[ONE, TWO], Ok(true));
    let effects = rig.give(Input::Checkpointed(Err(full_disk())));
    assert_eq!(checkpoints(&effects), [TWO]);
    assert_eq!(rig.give(SAVED), []);
    assert_eq!(rig.write_after(CHECKPOINT_AFTER - 1), []);
    assert_eq!(rig.write_after(CHECKPOINT_EVERY), [ONE]);
}

#[test]
fn a_consumer_that_was_rewound_is_saved_at_once() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    assert_eq!(rig.receive(1, ONE).len(), 1);
    rig.commit(1);
    rig.consumers[0].generation = Generation(2);
    rig.give(Input::ConfigChanged);
    // What it did before is not part of its journal any more.
    assert!(rig.rules.unwritten(ONE).is_empty());
    let effects = rig.tick();
    assert_eq!(journals(&effects), [[]; 0]);
    assert_eq!(checkpoint_of(&effects, ONE).0.generation, Generation(2));
    assert_eq!(rig.write(effects), [ONE]);
    assert_eq!(rig.receive(2, ONE).len(), 1);
}
