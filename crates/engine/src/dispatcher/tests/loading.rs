//! Consumers that are brought in, and what keeps them from it.

use super::super::reading::RETRY_LOCKED;
use super::*;
use crate::fault::Fault;

fn receive(rig: &mut Rig, consumer: ConsumerId) -> (Option<Answer>, Vec<Effect>) {
    let until = rig.clock.mono;
    rig.ask(1, Request::Receive { consumer, batch: 1, ack_wait: None, until })
}

/// Each that is tried would wait for the lock as long.
#[test]
fn while_the_journals_are_locked_no_consumer_is_brought_in() {
    let timeout = Failure::Error { text: "lock timeout".into(), is_lock: true };
    for (failure, text) in [(Failure::Locked, "it is locked"), (timeout, "lock timeout")] {
        let mut rig = Rig::new();
        rig.failing_journals = Some(failure);
        let id = rig.requests + 1;
        let until = rig.clock.mono;
        let request = Request::Receive { consumer: ONE, batch: 1, ack_wait: None, until };
        let asked = Asked { session: 1, request_id: RequestId(id), pid: 101, request };
        let log = rig.give(Input::Requests(vec![asked]));
        let said = format!("cannot read its state: {text}");
        assert_eq!(log, [Effect::Log(format!("consumer \"one\": {said}"))]);
        assert_eq!(rig.answer_to(RequestId(id)), Some(&Answer::NotNow));
        rig.requests = id;
        assert_eq!(rig.last_error(ONE), Some(said));
        rig.failing_journals = None;
        assert_eq!(receive(&mut rig, TWO).0, Some(Answer::NotNow));
        rig.after(RETRY_LOCKED - 1);
        assert_eq!(receive(&mut rig, TWO).0, Some(Answer::NotNow));
        assert!(!rig.stats(TWO).is_loaded);
        rig.after(1);
        receive(&mut rig, TWO);
        assert!(rig.stats(TWO).is_loaded);
    }
}

#[test]
fn a_journal_that_cant_be_read_keeps_no_other_consumer_out() {
    let mut rig = Rig::new();
    rig.failing_journals = Some(Failure::Error { text: "bad block".into(), is_lock: false });
    let id = RequestId(1);
    let request = Request::InFlight { consumer: ONE, after: AckId(0) };
    rig.give(Input::Requests(vec![Asked { session: 1, request_id: id, pid: 101, request }]));
    assert_eq!(rig.answer_to(id), Some(&Answer::NotNow));
    rig.requests = 1;
    rig.failing_journals = None;
    receive(&mut rig, TWO);
    assert!(rig.stats(TWO).is_loaded && !rig.stats(ONE).is_loaded);
    assert!(rig.stats(ONE).has_error && !rig.stats(TWO).has_error);
    receive(&mut rig, ONE);
    assert!(rig.stats(ONE).is_loaded);
}

#[test]
fn whoever_asks_is_told_why_a_stream_cant_be_opened() {
    let damaged = Answer::Damaged(Fault::Trigger.to_string());
    let failed = Failure::Error { text: "bad block".into(), is_lock: false };
    let fault = Effect::Log(Fault::Trigger.of("s"));
    let log = Effect::Log("cannot open stream \"s\": bad block".into());
    for (failure, answer, log) in [
        (Failure::Damaged(Fault::Trigger), damaged, vec![fault]),
        (Failure::Missing, Answer::NoConsumer, vec![]),
        (Failure::Locked, Answer::NotNow, vec![]),
        (failed, Answer::NotNow, vec![log]),
    ] {
        let mut rig = Rig::new();
        rig.failing = Some((S, failure));
        let asked = [ONE, TWO].into_iter().enumerate().map(|(n, consumer)| Asked {
            session: n,
            request_id: RequestId(n as u64 + 1),
            pid: 100 + n as i32,
            request: Request::InFlight { consumer, after: AckId(0) },
        });
        assert_eq!(rig.give(Input::Requests(asked.collect())), log);
        rig.requests = 2;
        for id in [1, 2] {
            assert_eq!(rig.answer_to(RequestId(id)), Some(&answer));
        }
        rig.failing = None;
        receive(&mut rig, ONE);
        assert!(rig.stats(ONE).is_loaded);
    }
}

#[test]
fn a_journal_of_a_later_epoch_is_left_to_a_later_dispatcher() {
    let mut rig = Rig::new();
    let checkpoint = Checkpoint { id: 7 << 40, generation: Generation(1), ..Checkpoint::default() };
    let journal = Journal { checkpoint: Some(checkpoint), ..Journal::default() };
    rig.journals.insert(ONE, journal);
    let request = Request::InFlight { consumer: ONE, after: AckId(0) };
    let asked = Asked { session: 1, request_id: RequestId(1), pid: 101, request };
    assert_eq!(rig.give(Input::Requests(vec![asked])), [Effect::End(End::NeedsEpoch)]);
    assert_eq!(rig.memory.asked_again, [1]);
    assert_eq!(rig.answer_to(RequestId(1)), None);
}

#[test]
fn a_consumer_that_was_delivered_more_than_the_sequence_has_handed_out_is_of_a_damaged_stream() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    rig.consumer_config(ONE).start_last = 5;
    rig.change(Changes::everything());
    let fault = Fault::WentBack { last: 2, known: 5 };
    let request = Request::InFlight { consumer: ONE, after: AckId(0) };
    let asked = Asked { session: 1, request_id: RequestId(1), pid: 101, request };
    assert_eq!(rig.give(Input::Requests(vec![asked])), [Effect::Log(fault.of("s"))]);
    assert_eq!(rig.answer_to(RequestId(1)), Some(&Answer::Damaged(fault.to_string())));
    rig.requests = 1;
    assert!(!rig.stats(ONE).is_loaded && rig.stats(ONE).is_damaged);
    rig.insert(S, &["c", "d", "e"]);
    assert_eq!(rig.receive_few(1, ONE, 10), [1, 2, 3, 4, 5]);
    assert!(!rig.stats(ONE).is_damaged);
}

/// Its state is of no use then.
#[test]
fn who_asks_while_the_stream_is_repaired_asks_again() {
    let mut rig = Rig::new();
    let request = Request::InFlight { consumer: ONE, after: AckId(0) };
    let asked = Asked { session: 1, request_id: RequestId(1), pid: 101, request };
    let known = Known::default();
    assert_eq!(rig.hand_in(Input::Requests(vec![asked])), [Effect::Open { stream: S, known }]);
    let opened = Input::Opened { stream: S, read: Ok(known) };
    assert_eq!(rig.hand_in(opened), [Effect::Restore(ONE)]);
    rig.streams[0].repairs += 1;
    let read = Config { streams: rig.streams.clone(), consumers: rig.consumers.clone() };
    rig.hand_in(Input::Config { changes: Box::new(Changes::everything()), read: Ok(Some(read)) });
    rig.hand_in(Input::Restored { consumer: ONE, read: Ok(Journal::default()) });
    rig.requests = 1;
    assert_eq!(rig.answer_to(RequestId(1)), Some(&Answer::NotNow));
    assert!(!rig.stats(ONE).is_loaded);
}

#[test]
fn a_consumer_is_not_kept_by_what_a_session_has_of_another_one() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.insert(T, &["a"]);
    let (_, ack_id) = rig.receive(1, ONE)[0];
    rig.finish(1, ONE, &[ack_id]);
    rig.receive(1, THREE);
    rig.commit(1);
    rig.rest(10 * SECOND);
    assert!(!rig.stats(ONE).is_loaded);
    assert!(rig.stats(THREE).is_loaded);
}
