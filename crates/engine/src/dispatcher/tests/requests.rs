//! What sessions ask, and what becomes of it.

use super::*;
use crate::key::{KeyId, key_id};

#[test]
fn a_session_has_to_ask_when_another_one_names_its_delivery() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c"]);
    for n in 0..4 {
        let received = rig.receive(1, ONE);
        assert_eq!(received.len(), 3);
        rig.commit(1);
        let (consumer, ack_ids) = (ONE, vec![received[1].1]);
        rig.memory.revoked.clear();
        rig.post(
            2,
            match n {
                0 => Request::Nack { consumer, delay: None, ack_ids },
                1 => Request::Extend { consumer, ack_wait: None, ack_ids },
                2 => Request::Finish { consumer, rejected: false, ack_ids },
                _ => Request::Gone { consumer, ack_ids },
            },
        );
        assert_eq!(rig.memory.revoked, [1]);
        rig.roll_back(2);
        // Their leases run out.
        rig.after(60 * SECOND);
    }
}

#[test]
fn only_those_have_to_ask_whose_deliveries_are_named() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b", "c", "d", "e"]);
    let received: Vec<_> = (1..=3)
        .map(|session| {
            let until = rig.clock.mono;
            let id = rig
                .post(session, Request::Receive { consumer: ONE, batch: 2, ack_wait: None, until });
            rig.tick();
            rig.deliveries(id)
        })
        .collect();
    let no_ones = received[0][1].1.at(1);
    assert_eq!(rig.finish(9, ONE, &[no_ones]), []);
    assert_eq!(rig.memory.revoked, []);
    assert_eq!(rig.finish(9, ONE, &[received[1][1].1, received[1][0].1]).len(), 2);
    assert_eq!(rig.memory.revoked, [2]);
    assert_eq!(rig.finish(9, ONE, &[received[0][1].1, received[2][0].1]).len(), 2);
    assert_eq!(rig.memory.revoked, [2, 3, 1]);
}

#[test]
fn what_was_finished_without_asking_is_not_finished_by_another() {
    let mut rig = Rig::new();
    rig.insert(S, &["a", "b"]);
    let id = rig.wait(1, ONE, 0);
    let (first, second) = (rig.deliveries(id)[0].1, rig.deliveries(id)[1].1);
    rig.commit(1);
    let ack = FastPathAck { request_id: id.next(), received_by: id, positions: vec![1] };
    rig.memory.acks.insert(1, ack);
    rig.requests += 1;
    assert_eq!(rig.finish(2, ONE, &[first, second]), [first]);
    rig.commit(2);
    assert_eq!(rig.stats(ONE).counts.acked_total, 1);
    rig.commit(1);
    assert_eq!(rig.stats(ONE).counts.acked_total, 2);
    assert_eq!(rig.stats(ONE).counts.in_flight, 0);
}

#[test]
fn a_savepoint_that_rolls_back_takes_away_only_what_was_received_since() {
    for (is_after, revoked) in [(true, vec![1]), (false, vec![])] {
        let mut rig = Rig::new();
        rig.insert(S, &["a"]);
        let id = rig.wait(1, ONE, 0);
        let from = Some(if is_after { id.next() } else { id });
        rig.end(1, Outcome { aborted_from: from, ..Outcome::default() });
        rig.change(Changes::everything());
        assert_eq!(rig.memory.revoked, revoked);
        assert_eq!(rig.stats(ONE).counts.in_flight, usize::from(is_after));
    }
}

#[test]
fn a_transaction_has_nothing_open_for_what_a_session_could_not_be_told() {
    let mut rig = Rig::new();
    rig.consumer_config(ONE).start_after = 1;
    rig.change(Changes::everything());
    rig.insert(S, &["a", "b"]);
    let (_, ack_id) = rig.receive(1, ONE)[0];
    rig.memory.withdrawn.insert(2);
    assert_eq!(rig.finish(2, ONE, &[ack_id]), [ack_id]);
    let messages = vec![(1, key_id("a"))];
    rig.post(2, Request::Redeliver { consumer: ONE, messages });
    rig.commit(2);
    let counts = rig.stats(ONE).counts;
    assert_eq!((counts.in_flight, counts.acked_total, counts.ready), (1, 0, 0));
    assert_eq!(rig.finish(3, ONE, &[ack_id]), [ack_id], "it is not pinned");
}

#[test]
fn a_request_that_finds_nothing_to_do_leaves_nothing_open() {
    let mut rig = Rig::new();
    rig.receive(1, ONE);
    assert_eq!(rig.finish(1, ONE, &[AckId(1)]), []);
    rig.post(1, Request::Nack { consumer: ONE, delay: None, ack_ids: vec![AckId(1)] });
    rig.post(1, Request::Redeliver { consumer: ONE, messages: vec![(7, key_id("a"))] });
    assert!(rig.rules.sessions.is_empty());
}

#[test]
fn messages_that_open_transactions_want_again_count_with_those_that_are_asked_for() {
    const MANY: usize = 40;
    let mut rig = Rig::new();
    rig.insert(S, &["a"; 2 * MANY]);
    rig.consumer_config(ONE).start_after = 2 * MANY as Seq;
    rig.change(Changes::everything());
    let redeliver = |rig: &mut Rig, session, count: usize| {
        let key = key_id("a");
        let messages: Vec<(Seq, KeyId)> = (1..=count as Seq).map(|seq| (seq, key)).collect();
        let id = rig.post(session, Request::Redeliver { consumer: ONE, messages });
        match rig.answer_to(id) {
            Some(Answer::Deliveries { deliveries, .. }) => Some(deliveries.len()),
            Some(Answer::TooMany) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(redeliver(&mut rig, 1, 2 * MANY), None);
    assert_eq!(redeliver(&mut rig, 1, MANY), Some(MANY));
    assert_eq!(redeliver(&mut rig, 2, MANY), None);
    rig.roll_back(1);
    assert_eq!(redeliver(&mut rig, 2, MANY), Some(MANY));
}

#[test]
fn deadlines_are_shown_by_the_wall_clock() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    let (answer, _) = rig.ask(2, Request::InFlight { consumer: ONE, after: AckId(0) });
    let Some(Answer::InFlight(leases)) = answer else { panic!("{answer:?}") };
    let (lease, seq, deliveries) = leases[0];
    assert_eq!((lease.due, lease.holder, lease.pinned), (5030 * SECOND, 101, false));
    assert_eq!((seq, deliveries), (1, 1));
}

#[test]
fn a_request_that_comes_before_the_configuration_is_asked_again() {
    let mut rig = Rig::unconfigured();
    rig.post(1, Request::Stats { after: ConsumerId(0) });
    assert_eq!(rig.memory.asked_again, [1]);
    assert_eq!(rig.memory.given, []);
    rig.tick();
    assert_eq!(rig.stats(ONE).consumer, ONE);
}

#[test]
fn an_entry_that_another_process_has_is_nothing_of_the_one_before() {
    let mut rig = Rig::new();
    rig.insert(S, &["a"]);
    rig.receive(1, ONE);
    rig.give(Input::Outcomes(vec![Outcome { session: 1, pid: 102, ..Outcome::default() }]));
    assert_eq!(rig.receive(2, ONE).len(), 1);
}
