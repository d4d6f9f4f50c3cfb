//! A session acks what it received last without asking, as the dispatcher has granted: with whatever others do to the same
//! deliveries meanwhile, it is as if it had asked.

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, Stop, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        what_another_session_has_acked_counts_there_only,
        what_another_session_is_acking_is_not_acked_twice,
        what_was_nacked_is_not_acked,
        an_ack_that_was_rolled_back_can_be_repeated,
        an_ack_in_a_savepoint_that_was_rolled_back_can_be_repeated,
        a_batch_can_be_acked_one_by_one_and_repeated_ids_count_once,
        a_shorter_lease_ends_when_it_says,
        an_ack_whose_row_is_older_than_a_checkpoint_outlives_a_crash,
        a_slot_that_another_database_has_by_now_is_left_alone,
    ]
}

/// Far above what anything here takes.
const LEASE: &str = "ack_wait => '1 h'";

fn what_another_session_has_acked_counts_there_only() {
    let database = database("fast_path_acked_elsewhere");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 3, 3);
    let held = ack_ids(&client.receive("c", 3, seconds(10)));
    assert_eq!(other.ack("c", &held[1..2]), 1);
    assert_eq!(client.ack("c", &held), 2);
    assert_eq!(client.acked_total(), 3);
}

fn what_another_session_is_acking_is_not_acked_twice() {
    let database = database("fast_path_being_acked");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 3, 3);
    let held = client.receive("c", 3, seconds(10));
    let mut open = other.transaction().unwrap();
    assert_eq!(open.ack("c", &ack_ids(&held[..1])), 1);
    assert_eq!(client.ack("c", &ack_ids(&held)), 2);
    open.rollback().unwrap();
    // Its lease goes on, and it can be acked now.
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);
}

fn what_was_nacked_is_not_acked() {
    let database = database("fast_path_nacked");
    let mut client = database.connect();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 3, 3);
    let held = client.receive("c", 3, seconds(10));
    assert_eq!(client.nack("c", &ack_ids(&held[..1])), 1);
    assert_eq!(client.ack("c", &ack_ids(&held)), 2);
    assert_eq!(seqs(&client.receive("c", 3, seconds(10))), seqs(&held[..1]));
}

fn an_ack_that_was_rolled_back_can_be_repeated() {
    let database = database("fast_path_rolled_back");
    let mut client = database.connect();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 3, 3);
    let held = ack_ids(&client.receive("c", 3, seconds(10)));
    for _ in 0..2 {
        let mut open = client.transaction().unwrap();
        assert_eq!(open.ack("c", &held), 3);
        open.rollback().unwrap();
        assert_eq!(client.in_flight("c"), 3);
    }
    assert_eq!(client.ack("c", &held), 3);
    assert_eq!(client.ack("c", &held), 0);
}

fn an_ack_in_a_savepoint_that_was_rolled_back_can_be_repeated() {
    let database = database("fast_path_savepoint");
    let mut client = database.connect();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 4, 4);
    let mut open = client.transaction().unwrap();
    let held = ack_ids(&open.receive("c", 3, seconds(10)));
    let mut inner = open.savepoint("later").unwrap();
    assert_eq!(inner.ack("c", &held), 3);
    inner.rollback().unwrap();
    assert_eq!(open.ack("c", &held[..2]), 2);
    open.commit().unwrap();
    assert_eq!(client.in_flight("c"), 1);
    assert_eq!(client.ack("c", &held), 1);
    // What was received in a savepoint goes back with it, and can't be acked.
    let mut open = client.transaction().unwrap();
    let mut inner = open.savepoint("later").unwrap();
    let held = ack_ids(&inner.receive("c", 3, seconds(10)));
    assert_eq!(held.len(), 1);
    inner.rollback().unwrap();
    assert_eq!(open.ack("c", &held), 0);
    open.commit().unwrap();
    assert_eq!(client.drain("c", millis(100)).len(), 1);
}

fn a_batch_can_be_acked_one_by_one_and_repeated_ids_count_once() {
    let database = database("fast_path_one_by_one");
    let mut client = database.connect();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 10, 10);
    let held = ack_ids(&client.receive("c", 5, seconds(10)));
    for ack_id in &held {
        assert_eq!(client.ack("c", &[*ack_id, *ack_id]), 1);
    }
    let held = ack_ids(&client.receive("c", 5, seconds(10)));
    assert_eq!(client.ack("c", &[held[4], held[0], held[4]]), 2);
    assert_eq!(client.ack("c", &[&held[..], &[1, i64::MAX]].concat()), 3);
    assert_eq!(client.acked_total(), 10);
}

fn a_shorter_lease_ends_when_it_says() {
    let database = database("fast_path_shorter");
    let mut client = database.connect();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 1, 1);
    let held = ack_ids(&client.receive("c", 1, seconds(10)));
    let extend = "SELECT sequin.extend('c', $1, '100 ms')";
    assert_eq!(client.query_one(extend, &[&held]).unwrap().get::<_, i32>(0), 1);
    let again = ack_ids(&client.receive("c", 1, seconds(10)));
    assert_eq!(client.ack("c", &held), 0);
    assert_eq!(client.ack("c", &again), 1);
}

fn an_ack_whose_row_is_older_than_a_checkpoint_outlives_a_crash() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres");
    client.batch_execute("CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", LEASE);
    client.publish_numbers("s", 10, 10);
    // With the word for these goes the id of a row.
    let slow = client.receive("c", 3, seconds(10));
    let mut other = cluster.connect("postgres");
    let fast = other.receive("c", 3, seconds(10));
    other.ack("c", &ack_ids(&fast));
    let newest = "SELECT coalesce(max(acked_total), 0) FROM sequin.checkpoints";
    wait_until("a checkpoint has the others", seconds(90), || other.number(newest) == 3);
    assert_eq!(client.ack("c", &ack_ids(&slow)), 3);
    cluster.kill_9();
    cluster.boot();

    let mut client = cluster.connect("postgres");
    assert_eq!(client.acked_total(), 6);
    assert_eq!(client.drain("c", millis(300)).len(), 4);
    cluster.stop(Stop::Fast);
}

/// A session that ends leaves its entry to the next one, of whatever database.
fn a_slot_that_another_database_has_by_now_is_left_alone() {
    let cluster = Cluster::start();
    let databases = ["one", "two"].map(|name| cluster.database(name));
    let [mut one, mut two] = databases.each_ref().map(|database| database.connect());
    for client in [&mut one, &mut two] {
        client.create("s", "c", LEASE);
        client.publish_numbers("s", 3, 3);
    }
    for acked in 1..=3 {
        let mut gone = databases[0].connect();
        let left = ack_ids(&gone.receive("c", 1, seconds(10)));
        let pid = gone.backend_pid();
        // The dispatcher has heard of that commit, and hears no more of the session.
        assert_eq!(one.in_flight("c"), 1);
        drop(gone);
        let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        wait_until("its session has ended", seconds(30), || one.number(&is_there) == 0);
        let mut next = databases[1].connect();
        let held = ack_ids(&next.receive("c", 1, seconds(10)));
        assert_eq!(next.ack("c", &held), 1);
        assert_eq!(one.ack("c", &left), 1);
        assert_eq!(two.acked_total(), acked);
    }
    cluster.stop(Stop::Fast);
}
