//! What becomes of deliveries when the transactions that hold them end.

use super::*;

#[test]
fn a_rollback_gives_back_at_once_what_was_received() {
    let mut desk = desk(Settings { backoff: vec![10], ..Settings::default() });
    desk.offer(&[1, 2]);
    let (_, first_ack_id) = desk.grant(2);
    desk.operation(1, Operation::Received { first_ack_id, count: 2 });
    desk.operation(
        2,
        Operation::Finish {
            ack_ids: vec![first_ack_id],
            ack_row_id: AckRowId(50),
            rejected: false,
        },
    );
    assert!(desk.consumer.pin(first_ack_id).is_some());
    desk.abort(0);
    assert!(desk.pending.is_empty());
    let again = desk.deliveries(2);
    assert!(again.iter().all(|delivery| delivery.deliveries == 2));
    assert_eq!(again.len(), 2);
}

#[test]
fn a_savepoint_that_rolls_back_voids_only_what_came_after_it() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2]);
    let (_, first) = desk.grant(2);
    for (number, ack_id) in [(1, first), (2, first.at(1))] {
        assert!(desk.consumer.pin(ack_id).is_some());
        desk.operation(
            number,
            Operation::Finish {
                ack_ids: vec![ack_id],
                ack_row_id: AckRowId(number.cast_signed()),
                rejected: false,
            },
        );
    }
    desk.abort(2);
    assert_eq!(desk.commit(), [AckRowId(1)]);
    assert_eq!(desk.consumer.counts().acked_total, 1);
    assert_eq!(desk.consumer.first_unfinished(), Some(2));
    assert!(desk.ack(first.at(1)), "the lease runs on");
}

#[test]
fn an_ack_takes_effect_with_its_transaction_and_a_nack_too() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2]);
    let (_, first) = desk.grant(2);
    assert!(desk.consumer.pin(first).is_some() && desk.consumer.pin(first.at(1)).is_some());
    desk.operation(
        1,
        Operation::Finish { ack_ids: vec![first], ack_row_id: AckRowId(50), rejected: true },
    );
    desk.operation(2, Operation::Nack { ack_ids: vec![first.at(1)], delay: Some(10) });
    assert_eq!(desk.consumer.counts().in_flight, 2);
    assert_eq!(desk.commit(), [AckRowId(50)]);
    let counts = desk.consumer.counts();
    assert_eq!((counts.dead_total, counts.acked_total, counts.delayed), (1, 0, 1));
}

/// Another session has acked what this one received: the answer to that ack holds, whichever transaction ends first.
#[test]
fn the_receiver_s_rollback_does_not_undo_another_s_ack() {
    let mut desk = desk(Settings::default());
    desk.offer(&[1, 2]);
    let (_, first_ack_id) = desk.grant(2);
    desk.operation(1, Operation::Received { first_ack_id, count: 2 });
    let (acked, given_up) = (first_ack_id, first_ack_id.at(1));
    assert!(desk.consumer.pin(acked).is_some() && desk.consumer.pin(given_up).is_some());
    desk.abort(0);
    assert!(desk.consumer.finish(acked));
    desk.consumer.unpin(given_up);
    desk.tick_at(desk.now);
    assert_eq!(desk.grant(2).0, [2]);
}
