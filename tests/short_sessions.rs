//! A session that disconnects right after its commit: what it did counts, and is not left lying about.

use std::collections::HashSet;

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        an_ack_of_a_session_that_is_gone_counts,
        a_nack_of_a_session_that_is_gone_counts,
        a_receive_of_a_session_that_is_gone_keeps_its_lease,
        an_ack_without_commit_of_a_session_that_is_gone_counts_nothing,
        acks_are_folded_into_a_checkpoint_though_nobody_asks,
    ]
}

const ROUNDS: i32 = 200;
const LONG_ACK_WAIT: &str = "ack_wait => '10 min'";

fn an_ack_of_a_session_that_is_gone_counts() {
    let database = database("short_acks");
    let mut other = database.connect();
    other.create("s", "c", LONG_ACK_WAIT);
    let mut acked = HashSet::new();
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        // Of one key: the second is withheld until the first one's ack is known.
        let first = other.publish("s", &format!("k.{round}"), "1");
        let second = other.publish("s", &format!("k.{round}"), "2");
        let mut session = database.connect();
        let got = session.receive("c", 1, seconds(10));
        assert_eq!(seqs(&got), [first], "round {round}");
        assert_eq!(session.ack("c", &ack_ids(&got)), 1);
        drop(session);
        assert!(acked.insert(first));
        let got = other.receive("c", 10, seconds(10));
        assert_eq!(seqs(&got), [second], "round {round}");
        held.extend(got);
    }
    assert_eq!(other.nack("c", &ack_ids(&held)), ROUNDS);
    let rest = other.drain("c", millis(500));
    assert!(rest.iter().all(|delivery| !acked.contains(&delivery.seq)), "an acked message is back");
    assert_eq!(rest.len(), held.len());
    let unfolded = "SELECT count(*) FROM sequin.acks";
    wait_until("the acks are in a checkpoint", seconds(30), || {
        other.receive("c", 1, millis(0));
        other.number(unfolded) == 0
    });
    other.restart_dispatcher();
    assert_eq!(other.receive("c", 10, millis(500)).len(), 0, "the checkpoint lacks an ack");
}

fn a_nack_of_a_session_that_is_gone_counts() {
    let database = database("short_nacks");
    let mut other = database.connect();
    other.create("s", "c", LONG_ACK_WAIT);
    for round in 0..ROUNDS {
        let seq = other.publish("s", "a", "1");
        let mut session = database.connect();
        let got = session.receive("c", 1, seconds(10));
        assert_eq!(session.nack("c", &ack_ids(&got)), 1);
        drop(session);
        let again = other.receive("c", 1, seconds(10));
        assert_eq!(seqs(&again), [seq], "round {round}");
        assert_eq!(again[0].deliver_count, 2);
        assert_eq!(other.ack("c", &ack_ids(&again)), 1);
    }
}

fn a_receive_of_a_session_that_is_gone_keeps_its_lease() {
    let database = database("short_receives");
    let mut other = database.connect();
    other.create("s", "c", LONG_ACK_WAIT);
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        let seq = other.publish("s", &format!("k.{round}"), "1");
        let mut session = database.connect();
        let got = session.receive("c", 1, seconds(10));
        drop(session);
        assert_eq!(seqs(&got), [seq]);
        held.extend(got);
        assert_eq!(other.receive("c", 10, millis(0)).len(), 0, "round {round}: given back");
    }
    assert_eq!(other.in_flight("c"), i64::from(ROUNDS));
    assert_eq!(other.ack("c", &ack_ids(&held)), ROUNDS, "anybody may ack, by the ack_id");
}

fn an_ack_without_commit_of_a_session_that_is_gone_counts_nothing() {
    let database = database("short_uncommitted");
    let mut other = database.connect();
    other.create("s", "c", LONG_ACK_WAIT);
    for round in 0..ROUNDS {
        let seq = other.publish("s", "a", "1");
        let mut session = database.connect();
        session.batch_execute("BEGIN").unwrap();
        let got = session.receive("c", 1, seconds(10));
        assert_eq!(session.ack("c", &ack_ids(&got)), 1);
        drop(session);
        let again = other.receive("c", 1, seconds(10));
        assert_eq!(seqs(&again), [seq], "round {round}");
        assert_eq!(other.ack("c", &ack_ids(&again)), 1);
    }
}

/// The last ack of a busy hour, too, leaves the journal without anybody's further call.
fn acks_are_folded_into_a_checkpoint_though_nobody_asks() {
    let database = database("short_folding");
    let mut observer = database.connect();
    observer.create("s", "c", LONG_ACK_WAIT);
    observer.publish_numbers("s", 50, 50);
    for _ in 0..50 {
        let mut session = database.connect();
        let got = session.receive("c", 1, seconds(10));
        assert_eq!(session.ack("c", &ack_ids(&got)), 1);
    }
    let unfolded = "SELECT count(*) FROM sequin.acks";
    wait_until("the acks are in a checkpoint", seconds(30), || observer.number(unfolded) == 0);
}
