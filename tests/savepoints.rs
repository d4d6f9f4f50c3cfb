//! Savepoints, and the EXCEPTION blocks that are made of them: each undoes what it has done, and no more.

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, Delivery, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        an_ack_in_a_rolled_back_savepoint_counts_nothing_and_one_before_it_counts,
        a_receive_in_a_rolled_back_savepoint_gives_back_at_once_and_one_before_it_stays,
        a_nack_in_a_rolled_back_savepoint_counts_nothing,
        a_released_savepoint_keeps_what_it_did,
        a_released_savepoint_falls_with_the_one_around_it,
        an_exception_block_undoes_what_it_did_and_no_more,
        a_hundred_levels_of_savepoints,
    ]
}

const LONG_ACK_WAIT: &str = "ack_wait => '10 min'";

/// A consumer with `count` messages of different keys, all received by the client.
fn holding(client: &mut Client, count: i32) -> Vec<Delivery> {
    client.create("s", "c", LONG_ACK_WAIT);
    client.publish_numbers("s", count, count);
    let held = client.receive("c", count, seconds(10));
    assert_eq!(held.len() as i32, count);
    held
}

fn an_ack_in_a_rolled_back_savepoint_counts_nothing_and_one_before_it_counts() {
    let database = database("savepoint_ack");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, 4);
    let mut transaction = client.transaction().unwrap();
    assert_eq!(transaction.ack("c", &[held[0].ack_id]), 1);
    let mut savepoint = transaction.savepoint("s").unwrap();
    assert_eq!(savepoint.ack("c", &[held[0].ack_id]), 0, "acked twice");
    assert_eq!(savepoint.ack("c", &ack_ids(&held[1..3])), 2);
    savepoint.rollback().unwrap();
    // What was undone can be done again.
    assert_eq!(transaction.ack("c", &[held[2].ack_id]), 1);
    transaction.commit().unwrap();
    assert_eq!(other.in_flight("c"), 2);
    assert_eq!(other.ack("c", &ack_ids(&held)), 2, "the first and the third are finished");
    other.restart_dispatcher();
    assert_eq!(other.receive("c", 10, millis(300)).len(), 0);
}

fn a_receive_in_a_rolled_back_savepoint_gives_back_at_once_and_one_before_it_stays() {
    let database = database("savepoint_receive");
    let (mut client, mut other) = (database.connect(), database.connect());
    client.create("s", "c", LONG_ACK_WAIT);
    client.publish_numbers("s", 6, 6);
    let mut transaction = client.transaction().unwrap();
    let outer = transaction.receive("c", 2, seconds(10));
    let mut savepoint = transaction.savepoint("s").unwrap();
    let first = savepoint.receive("c", 2, seconds(10));
    let second = savepoint.receive("c", 2, seconds(10));
    savepoint.rollback().unwrap();
    let again = other.receive("c", 10, seconds(5));
    assert_eq!(seqs(&again), [seqs(&first), seqs(&second)].concat());
    assert_eq!(other.ack("c", &ack_ids(&again)), 4);
    assert_eq!(transaction.ack("c", &ack_ids(&outer)), 2);
    transaction.commit().unwrap();
    assert_eq!(other.receive("c", 10, millis(300)).len(), 0);
    assert_eq!(other.in_flight("c"), 0);
}

fn a_nack_in_a_rolled_back_savepoint_counts_nothing() {
    let database = database("savepoint_nack");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, 2);
    let mut transaction = client.transaction().unwrap();
    assert_eq!(transaction.nack("c", &[held[0].ack_id]), 1);
    let mut savepoint = transaction.savepoint("s").unwrap();
    assert_eq!(savepoint.nack("c", &[held[1].ack_id]), 1);
    savepoint.rollback().unwrap();
    assert_eq!(other.receive("c", 10, millis(200)).len(), 0, "a nack counts at commit");
    transaction.commit().unwrap();
    let again = other.receive("c", 10, seconds(5));
    assert_eq!(seqs(&again), seqs(&held[..1]));
    assert_eq!(other.ack("c", &[held[1].ack_id]), 1, "the lease was to stay as it was");
}

fn a_released_savepoint_keeps_what_it_did() {
    let database = database("savepoint_release");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, 2);
    other.publish("s", "more", "1");
    let mut transaction = client.transaction().unwrap();
    let mut savepoint = transaction.savepoint("s").unwrap();
    assert_eq!(savepoint.ack("c", &[held[0].ack_id]), 1);
    let received = savepoint.receive("c", 1, seconds(10));
    savepoint.commit().unwrap();
    // And a later one, rolled back, takes nothing of it along.
    let mut savepoint = transaction.savepoint("s").unwrap();
    assert_eq!(savepoint.ack("c", &[held[1].ack_id]), 1);
    savepoint.rollback().unwrap();
    transaction.commit().unwrap();
    assert_eq!(other.receive("c", 10, millis(200)).len(), 0, "what was received was given back");
    assert_eq!(other.ack("c", &ack_ids(&held)), 1);
    assert_eq!(other.ack("c", &ack_ids(&received)), 1);
}

fn a_released_savepoint_falls_with_the_one_around_it() {
    let database = database("savepoint_nested");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, 2);
    other.publish("s", "more", "1");
    let mut transaction = client.transaction().unwrap();
    assert_eq!(transaction.ack("c", &[held[0].ack_id]), 1);
    let mut outer = transaction.savepoint("around").unwrap();
    let mut inner = outer.savepoint("within").unwrap();
    assert_eq!(inner.ack("c", &[held[1].ack_id]), 1);
    let received = inner.receive("c", 1, seconds(10));
    inner.commit().unwrap();
    outer.rollback().unwrap();
    assert_eq!(seqs(&other.receive("c", 10, seconds(5))), seqs(&received));
    transaction.commit().unwrap();
    assert_eq!(other.ack("c", &ack_ids(&held)), 1, "the second is in flight still");
}

fn an_exception_block_undoes_what_it_did_and_no_more() {
    let database = database("savepoint_plpgsql");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, 3);
    other.publish("s", "more", "1");
    let block = format!(
        "DO $$
         DECLARE received bigint;
         BEGIN
            ASSERT sequin.ack('c', ARRAY[{0}]) = 1;
            BEGIN
                ASSERT sequin.ack('c', ARRAY[{1}]) = 1;
                SELECT seq INTO STRICT received FROM sequin.receive('c', 1, '10 s');
                BEGIN
                    ASSERT sequin.nack('c', ARRAY[{2}]) = 1;
                    RAISE EXCEPTION 'undo the nack';
                EXCEPTION WHEN raise_exception THEN
                    ASSERT sequin.ack('c', ARRAY[{2}]) = 1;
                END;
                PERFORM 1 / 0;
            EXCEPTION WHEN division_by_zero THEN NULL;
            END;
         END $$",
        held[0].ack_id, held[1].ack_id, held[2].ack_id
    );
    client.batch_execute(&block).unwrap();
    let again = other.receive("c", 10, seconds(5));
    assert_eq!(again.iter().map(|delivery| &*delivery.key).collect::<Vec<_>>(), ["more"]);
    assert_eq!(again[0].deliver_count, 2);
    assert_eq!(other.ack("c", &ack_ids(&held)), 2, "only the first is finished");
}

const LEVELS: usize = 100;

/// Each level acks one message and receives another; then it is all rolled back to the middle.
fn a_hundred_levels_of_savepoints() {
    const KEPT: usize = LEVELS / 2;
    let database = database("savepoint_levels");
    let (mut client, mut other) = (database.connect(), database.connect());
    let held = holding(&mut client, LEVELS as i32);
    for n in 0..LEVELS {
        other.publish("s", &format!("more.{n}"), "1");
    }
    client.batch_execute("BEGIN").unwrap();
    let mut received = Vec::new();
    for (level, delivery) in held.iter().enumerate() {
        client.batch_execute(&format!("SAVEPOINT s{level}")).unwrap();
        assert_eq!(client.ack("c", &[delivery.ack_id]), 1);
        received.extend(client.receive("c", 1, seconds(10)));
    }
    client.batch_execute(&format!("ROLLBACK TO s{KEPT}")).unwrap();
    let again = other.receive("c", 1000, seconds(5));
    assert_eq!(seqs(&again), seqs(&received[KEPT..]));
    // Half of the rest is released, all the way up, and half of what is undone is done again.
    client.batch_execute(&format!("RELEASE s{}", KEPT / 2)).unwrap();
    assert_eq!(client.ack("c", &ack_ids(&held[KEPT..KEPT + 10])), 10);
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(other.in_flight("c") as usize, (LEVELS - KEPT - 10) + KEPT + again.len());
    assert_eq!(other.ack("c", &ack_ids(&held)) as usize, LEVELS - KEPT - 10);
    assert_eq!(other.ack("c", &ack_ids(&received)) as usize, KEPT);
    assert_eq!(other.ack("c", &ack_ids(&again)) as usize, LEVELS - KEPT);
    assert_eq!(other.receive("c", 10, millis(300)).len(), 0);
}
