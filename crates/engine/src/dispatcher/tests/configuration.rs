//! Streams and consumers come, go and change, while sessions use them.

use super::*;
use crate::changes::Change;

fn rename(rig: &mut Rig, name: &str) {
    rig.streams[0].name = name.into();
    [ONE, TWO].into_iter().for_each(|id| rig.consumer_config(id).stream = name.into());
}

#[test]
fn new_filters_are_for_all_that_is_not_delivered() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    assert_eq!(rig.receive_few(1, ONE, 1), [1]);
    rig.consumer_config(ONE).filters = vec!["c".into()];
    rig.change(Change::Consumer(ONE).into());
    rig.insert(S, &["c", "b"]);
    assert_eq!(rig.receive_few(1, ONE, 10), [3]);
    assert_eq!(rig.stats(ONE).counts.in_flight, 2);
}

#[test]
fn a_consumer_that_is_ordered_no_more_has_a_keys_messages_delivered_at_once() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "a", "a"]);
    assert_eq!(rig.receive_few(1, ONE, 10), [1]);
    rig.consumer_config(ONE).settings.ordered = false;
    rig.change(Change::Consumer(ONE).into());
    assert_eq!(rig.receive_few(1, ONE, 10), [2, 3]);
}

#[test]
fn other_settings_count_at_once_and_nothing_is_read_again_for_them() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c"]);
    assert_eq!(rig.receive_few(1, ONE, 1), [1]);
    let ranges = rig.ranges;
    rig.consumer_config(ONE).settings.max_ack_pending = 2;
    rig.consumer_config(ONE).settings.ack_wait = 7 * SECOND;
    rig.change(Change::Consumer(ONE).into());
    assert_eq!(rig.receive_few(1, ONE, 10), [2]);
    assert_eq!(rig.ranges, ranges);
    rig.after(7 * SECOND);
    assert_eq!(rig.receive_few(1, ONE, 10), [2]);
}

#[test]
fn a_consumer_that_was_rewound_starts_anew_and_keeps_its_counts() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c"]);
    let (_, ack_id) = rig.receive(1, ONE)[0];
    rig.finish(1, ONE, &[ack_id]);
    rig.commit(1);
    let config = rig.consumer_config(ONE);
    (config.generation, config.start_after) = (Generation(2), 1);
    rig.change(Change::Consumer(ONE).into());
    let id = rig.wait(1, ONE, 0);
    assert_eq!(rig.seqs(id), [2, 3]);
    let Some(Answer::Deliveries { generation, .. }) = rig.answer_to(id) else { panic!() };
    assert_eq!(*generation, Generation(2));
    assert_eq!(rig.stats(ONE).counts.acked_total, 1);
}

#[test]
fn consumers_go_where_their_stream_goes_when_it_is_renamed_and_are_nowhere_when_it_is_dropped() {
    let mut rig = Rig::new();
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    rig.receive(2, TWO);
    rename(&mut rig, "u");
    rig.change(Changes::everything());
    rig.publish(S, &["a"]);
    assert_eq!(rig.seqs(waiting), [1]);
    assert_eq!(rig.receive_few(2, TWO, 10), [1]);
    assert_eq!(rig.rules.stream_name(S), Some("u"));
    assert_eq!(rig.rules.config(ONE).map(|config| &config.stream[..]), Some("u"));
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    rig.streams.remove(0);
    rig.change(Change::Stream(S).into());
    assert_eq!(rig.answer_to(waiting), Some(&Answer::NoConsumer));
    assert_eq!(rig.rules.stream_name(S), None);
}

/// They were left waiting, and were told at the end that there is nothing.
#[test]
fn who_waits_gets_the_messages_of_the_stream_that_was_made_anew() {
    let mut rig = Rig::new();
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    let shortly = rig.wait(2, TWO, SECOND);
    rig.streams[0].id = StreamId(7);
    rig.messages.insert(StreamId(7), Vec::new());
    rig.change(Changes::everything());
    rig.rest(SECOND);
    assert_eq!(rig.answer_to(shortly), Some(&Answer::empty()));
    assert_eq!(rig.answer_to(waiting), None);
    assert!(rig.memory.listening.contains(&StreamId(7)));
    rig.publish(StreamId(7), &["a"]);
    assert_eq!(rig.seqs(waiting), [1]);
}

#[test]
fn what_was_seen_of_a_sequence_is_forgotten_when_the_stream_is_repaired_and_only_then() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    rig.receive(1, ONE);
    rig.change(Change::Stream(S).into());
    rig.receive(1, ONE);
    assert_eq!(rig.known.unwrap().sequence, Some(SEQUENCE));
    rig.streams[0].repairs += 1;
    rig.change(Change::Stream(S).into());
    rig.receive(1, ONE);
    assert_eq!(rig.known.unwrap().sequence, None);
    rig.receive(1, ONE);
    assert_eq!(rig.known.unwrap().sequence, Some(SEQUENCE));
}

#[test]
fn a_repaired_stream_that_nobody_uses_is_opened_anew() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    rig.receive(1, ONE);
    rig.roll_back(1);
    rig.rest(20 * SECOND);
    assert!(!rig.stats(ONE).is_loaded);
    rig.streams[0].repairs += 1;
    rig.messages.insert(S, Vec::new());
    rig.change(Change::Stream(S).into());
    rig.journals.insert(ONE, Journal::default());
    rig.receive(1, ONE);
    rig.publish(S, &["c"]);
    assert_eq!(rig.receive_few(1, ONE, 10), [1]);
}

#[test]
fn a_consumer_that_is_dropped_is_forgotten_with_all_that_waits_for_it() {
    let mut rig = Rig::new();
    let waiting = rig.wait(1, ONE, 60 * SECOND);
    rig.consumers.remove(0);
    let effects = rig.change(Change::Consumer(ONE).into());
    assert_eq!(effects, [Effect::Forget(vec![ONE])]);
    assert_eq!(rig.answer_to(waiting), Some(&Answer::NoConsumer));
    assert_eq!(rig.rules.config(ONE), None);
    assert_eq!(rig.change(Change::Consumer(ONE).into()), [], "once");
    assert!(!rig.memory.is_waited_for);
}

#[test]
fn what_sessions_may_finish_without_asking_is_taken_back_when_anything_changes() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.insert(T, &["a"]);
    rig.receive(1, ONE);
    rig.receive(2, THREE);
    rig.change(Change::Consumer(TWO).into());
    assert_eq!(rig.memory.revoked, [1, 2]);
}

/// How often everything is read for a change of one consumer.
fn reads_of_everything(rig: &mut Rig, changes: &Changes) -> usize {
    let read = Ok(Some(Config { streams: Vec::new(), consumers: rig.consumers.clone() }));
    let effects = rig.hand_in(Input::Config { changes: Box::new(*changes), read });
    let is_all = |effect: &&Effect| **effect == Effect::ReadConfig(Changes::everything().into());
    effects.iter().filter(is_all).count()
}

#[test]
fn a_table_is_looked_for_when_a_consumer_without_one_changes_and_not_over_and_over() {
    let mut rig = Rig::new();
    rig.streams.clear();
    rig.change(Changes::everything());
    assert_eq!(reads_of_everything(&mut rig, &Change::Consumer(ONE).into()), 1);
    assert_eq!(reads_of_everything(&mut rig, &Changes::everything()), 0);
}

#[test]
fn a_configuration_that_cant_be_read_is_told_and_tried_again_and_serves_nobody() {
    let mut rig = Rig::new();
    let changes = Box::new(Changes::from(Change::Consumer(ONE)));
    let log = rig.give(Input::Config { changes, read: Err("disk full".into()) });
    assert_eq!(log, [Effect::Log("cannot read the configuration: disk full".into())]);
    assert!(!rig.rules.is_ready());
    rig.post(1, Request::Stats { after: ConsumerId(0) });
    assert_eq!(rig.memory.asked_again, [1]);
    // What had changed is not known: everything is read.
    rig.consumers.remove(1);
    rig.tick();
    assert!(rig.rules.is_ready());
    assert_eq!(rig.rules.config(TWO), None);
}

#[test]
fn the_dispatcher_ends_when_the_extension_is_gone() {
    let mut rig = Rig::new();
    let changes = Box::new(Changes::everything());
    assert_eq!(
        rig.give(Input::Config { changes, read: Ok(None) }),
        [Effect::End(End::NoExtension)]
    );
}
