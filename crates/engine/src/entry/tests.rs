//! The mailbox, and what is left of it when the entry gets another owner.

use super::*;
use crate::consumer::Delivery;
use crate::ids::{AckId, AckRowId, ConsumerId, Generation};
use crate::wire::MAX_BATCH;

const HERE: u32 = 1;
const ELSEWHERE: u32 = 2;

fn owned() -> Entry {
    let mut entry = Entry::zeroed();
    assert_eq!(entry.own(10, HERE, |_| true), None);
    entry
}

fn far_apart() -> impl Iterator<Item = i64> {
    (0..MAX_BATCH).map(|n| if n.is_multiple_of(2) { i64::MAX / 2 } else { i64::MIN })
}

fn finish(ack_ids: impl Iterator<Item = i64>) -> Request {
    let ack_ids = ack_ids.map(AckId).collect();
    Request::Finish { consumer: ConsumerId(1), rejected: false, ack_ids }
}

fn deliveries(ids: impl Iterator<Item = i64>) -> Answer {
    let deliveries = ids.map(|id| Delivery { ack_id: AckId(id), seq: id, deliveries: 1 }).collect();
    Answer::Deliveries { ack_row_id: AckRowId(1), generation: Generation(0), deliveries }
}

/// Posts a request and has it taken.
fn ask(entry: &mut Entry) -> RequestId {
    let request = finish(1..4);
    let request_id = entry.post(&request).unwrap();
    let (_, asked) = entry.collect(0, HERE);
    assert_eq!(asked, Some(Asked { session: 0, request_id, pid: 10, request }));
    request_id
}

fn reigns(reign: u64) -> Reigns {
    Reigns { current: reign, last: reign }
}

#[test]
fn what_is_asked_is_answered() {
    let mut entry = owned();
    let request = ask(&mut entry);
    let answer = deliveries(1..4);
    assert!(entry.answer(request, &answer, true, 7));
    assert_eq!(entry.take_answer(), Some(answer));
    assert_eq!(entry.take_answer(), None);
    assert!(!entry.may_commit(reigns(8)), "it relies on that answer");
    assert!(entry.finish(request, &[0], false).is_some());
}

#[test]
fn who_is_not_answered_for_want_of_room_is_told_and_relies_on_nothing() {
    let mut entry = owned();
    let request = ask(&mut entry);
    assert!(!entry.answer(request, &deliveries(far_apart()), true, 7));
    assert!(!entry.answer(request, &deliveries(1..4), true, 7), "it is answered");
    assert_eq!(entry.take_answer(), Some(Answer::TooLong));
    assert_eq!(entry.finish(request, &[0], false), None);
    assert!(entry.may_commit(reigns(8)));
    ask(&mut entry);
}

#[test]
fn a_request_that_is_too_long_is_not_posted() {
    let mut entry = owned();
    assert_eq!(entry.post(&finish(far_apart())), None);
    assert_eq!((entry.mailbox(), entry.last_request()), (Mailbox::Idle, RequestId::NONE));
    assert_eq!(entry.collect(0, HERE).1, None);
    ask(&mut entry);
}

#[test]
fn what_is_for_one_owner_does_not_reach_the_next() {
    for database in [HERE, ELSEWHERE] {
        let mut entry = owned();
        let received = ask(&mut entry);
        assert!(entry.answer(received, &deliveries(1..4), true, 7));
        entry.take_answer();
        let request = ask(&mut entry);
        entry.disown();
        assert_eq!(entry.own(11, database, |_| true), None);
        assert!(entry.is_of(database));
        // Neither at once nor after the next owner has posted a request itself.
        for is_asking in [false, true] {
            if is_asking {
                assert!(entry.post(&finish(1..2)) > Some(request));
                entry.collect(0, database);
            }
            assert!(!entry.answer(request, &deliveries(1..4), true, 7));
            entry.ask_again(request);
            assert_ne!(entry.mailbox(), Mailbox::Posted);
            assert_eq!(entry.take_answer(), None);
            assert_eq!(entry.finish(received, &[0], false), None);
            assert_eq!(entry.revoke(received), None);
            assert!(entry.may_commit(reigns(8)));
        }
    }
}

#[test]
fn an_end_that_is_not_told_waits_for_its_dispatcher() {
    let mut entry = owned();
    let received = ask(&mut entry);
    assert!(entry.answer(received, &deliveries(1..4), true, 7));
    entry.take_answer();
    let finished = entry.finish(received, &[1], false).unwrap();
    entry.commit();
    entry.end();
    entry.disown();
    assert_eq!(entry.own(11, ELSEWHERE, |database| database == HERE), Some(HERE));
    // A session of the same database can take it over at once: its request is collected later.
    assert_eq!(entry.own(12, HERE, |_| true), None);
    let (outcome, _) = entry.collect(0, HERE);
    assert_eq!(outcome.committed_upto, Some(finished));
    assert_eq!(outcome.fast_path_ack.map(|ack| ack.positions), Some(vec![1]));
    entry.disown();
    assert_eq!(entry.own(13, ELSEWHERE, |_| true), None);
    assert_eq!(entry.collect(0, HERE), (Outcome::default(), None));
}
