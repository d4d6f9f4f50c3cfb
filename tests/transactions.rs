//! Receive and ack take part in the transaction that calls them.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::{Client, Error};

use crate::calls::{Calls, ack_ids, millis, seconds, seqs};
use crate::harness::{database, trials};
use crate::others::{Done, keep_on, while_others};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        rollback_of_receive_gives_back_at_once,
        rollback_to_a_savepoint_gives_back_at_once,
        rolled_back_ack_did_not_take_effect,
        an_open_ack_keeps_its_delivery_past_the_deadline,
        receive_sees_new_messages_in_repeatable_read,
        termination_of_a_holder_in_a_transaction_gives_back_at_once,
        termination_after_a_committed_receive_gives_back_at_the_deadline,
        termination_of_a_waiter_loses_nothing,
        statement_timeout_of_a_waiter_loses_nothing,
        exactly_once_under_kill_9,
    ]
}

/// Far beyond what a test waits: who gets a message earlier than this got it by release, not by deadline.
const LONG_ACK_WAIT: &str = "ack_wait => '10 min'";
const AT_ONCE: Duration = seconds(5);

fn rollback_of_receive_gives_back_at_once() {
    let database = database("rollback");
    let (mut first, mut second) = (database.connect(), database.connect());
    first.create("s", "c", LONG_ACK_WAIT);
    first.publish_numbers("s", 5, 5);
    let mut transaction = first.transaction().unwrap();
    let held = transaction.receive("c", 5, AT_ONCE);
    assert_eq!(held.len(), 5);
    assert_eq!(second.receive("c", 5, millis(100)).len(), 0);
    transaction.rollback().unwrap();
    assert_eq!(seqs(&second.receive("c", 5, AT_ONCE)), seqs(&held));
    assert_eq!(second.ack("c", &ack_ids(&held)), 0, "the released deliveries are void");
}

fn rollback_to_a_savepoint_gives_back_at_once() {
    let database = database("savepoint");
    let (mut first, mut second) = (database.connect(), database.connect());
    first.create("s", "c", LONG_ACK_WAIT);
    first.publish_numbers("s", 2, 2);
    let mut transaction = first.transaction().unwrap();
    let kept = transaction.receive("c", 1, AT_ONCE);
    let mut savepoint = transaction.savepoint("s").unwrap();
    let released = savepoint.receive("c", 1, AT_ONCE);
    savepoint.rollback().unwrap();
    assert_eq!(seqs(&second.receive("c", 5, AT_ONCE)), seqs(&released));
    assert_eq!(transaction.ack("c", &ack_ids(&released)), 0);
    assert_eq!(transaction.ack("c", &ack_ids(&kept)), 1);
    transaction.commit().unwrap();
    assert_eq!(second.receive("c", 5, millis(200)).len(), 0);
}

fn rolled_back_ack_did_not_take_effect() {
    let database = database("ack_rollback");
    let mut client = database.connect();
    client.create("s", "c", LONG_ACK_WAIT);
    client.publish("s", "a", "1");
    let held = client.receive("c", 1, AT_ONCE);

    let mut transaction = client.transaction().unwrap();
    assert_eq!(transaction.ack("c", &ack_ids(&held)), 1);
    transaction.rollback().unwrap();
    assert_eq!(client.in_flight("c"), 1);

    let mut transaction = client.transaction().unwrap();
    let mut savepoint = transaction.savepoint("s").unwrap();
    assert_eq!(savepoint.ack("c", &ack_ids(&held)), 1);
    savepoint.rollback().unwrap();
    transaction.commit().unwrap();
    assert_eq!(client.in_flight("c"), 1);

    assert_eq!(client.ack("c", &ack_ids(&held)), 1, "the lease was to stay as it was");
    assert_eq!(client.in_flight("c"), 0);
}

fn an_open_ack_keeps_its_delivery_past_the_deadline() {
    let database = database("ack_pins");
    let (mut first, mut second) = (database.connect(), database.connect());
    first.create("s", "c", "ack_wait => '1 s'");
    for commit in [false, true] {
        first.publish("s", "a", "1");
        let held = first.receive("c", 1, AT_ONCE);
        let mut transaction = first.transaction().unwrap();
        assert_eq!(transaction.ack("c", &ack_ids(&held)), 1);
        assert_eq!(second.receive("c", 1, millis(1500)).len(), 0, "it came while being acked");
        if commit {
            transaction.commit().unwrap();
            assert_eq!(second.receive("c", 1, millis(1500)).len(), 0, "it came after its ack");
        } else {
            transaction.rollback().unwrap();
            let again = second.receive("c", 1, AT_ONCE);
            assert_eq!((again[0].seq, again[0].deliver_count), (held[0].seq, 2));
            assert_eq!(second.ack("c", &ack_ids(&again)), 1);
        }
    }
}

fn receive_sees_new_messages_in_repeatable_read() {
    let database = database("repeatable_read");
    let (mut worker, mut publisher) = (database.connect(), database.connect());
    worker.create("s", "c", "");
    worker.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    let seq = publisher.publish("s", "a", "42");
    let held = worker.receive("c", 1, AT_ONCE);
    assert_eq!((held[0].seq, held[0].data.as_str()), (seq, "42"));
    assert_eq!(worker.ack("c", &ack_ids(&held)), 1);
    worker.batch_execute("COMMIT").unwrap();
    assert_eq!(publisher.in_flight("c"), 0);
}

fn termination_of_a_holder_in_a_transaction_gives_back_at_once() {
    let database = database("kill_holder");
    let (mut holder, mut other) = (database.connect(), database.connect());
    other.create("s", "c", LONG_ACK_WAIT);
    other.publish("s", "a", "1");
    holder.batch_execute("BEGIN").unwrap();
    let held = holder.receive("c", 1, AT_ONCE);
    other.terminate(holder.backend_pid());
    assert_eq!(seqs(&other.receive("c", 1, AT_ONCE)), seqs(&held));
}

fn termination_after_a_committed_receive_gives_back_at_the_deadline() {
    let database = database("kill_committed_holder");
    let (mut holder, mut other) = (database.connect(), database.connect());
    other.create("s", "c", "ack_wait => '2 s'");
    other.publish("s", "a", "1");
    let begun = Instant::now();
    let held = holder.receive("c", 1, AT_ONCE);
    other.terminate(holder.backend_pid());
    let again = other.receive("c", 1, seconds(10));
    assert_eq!(seqs(&again), seqs(&held));
    assert!(begun.elapsed() >= seconds(2), "it came before its deadline: {:?}", begun.elapsed());
}

fn termination_of_a_waiter_loses_nothing() {
    let database = database("kill_waiter");
    let mut client = database.connect();
    client.create("s", "c", LONG_ACK_WAIT);
    for _ in 0..5 {
        let mut waiter = database.connect();
        let pid = waiter.backend_pid();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| waiter.try_receive("c", 1, seconds(60)));
            wait_until("the receiver waits", AT_ONCE, || client.is_waiting(pid));
            client.terminate(pid);
            assert!(waiting.join().unwrap().is_err());
        });
        let seq = client.publish("s", "a", "1");
        let got = client.receive("c", 1, AT_ONCE);
        assert_eq!(seqs(&got), [seq], "it went to a receiver that is dead");
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    }
}

fn statement_timeout_of_a_waiter_loses_nothing() {
    let database = database("statement_timeout");
    let mut client = database.connect();
    client.create("s", "c", LONG_ACK_WAIT);
    for n in 0..10 {
        client.batch_execute("SET statement_timeout = '100 ms'").unwrap();
        // Published at about the moment of the timeout: either way it must come once, and not be lost.
        let (mut publisher, delay) = (database.connect(), millis(90 + 2 * n));
        let first = thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(delay);
                publisher.publish("s", "a", "1");
            });
            client.try_receive("c", 1, seconds(60))
        });
        client.batch_execute("SET statement_timeout = 0").unwrap();
        let got = first.unwrap_or_else(|error| {
            assert_eq!(error.code().map(|state| state.code()), Some("57014"), "{error:?}");
            client.receive("c", 1, AT_ONCE)
        });
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
        assert_eq!(client.in_flight("c"), 0);
    }
}

const ROUNDS: usize = 20;
const PROCESSORS: u64 = 4;

/// `BEGIN; receive; INSERT of the result; ack; COMMIT`, and publishing, while the server is killed again and again.
fn exactly_once_under_kill_9() {
    let cluster = Cluster::start();
    let database = cluster.database("exactly_once");
    let mut client = database.connect();
    // What a dead worker held comes back after a second.
    client.create("s", "c", "ack_wait => '1 s'");
    client.batch_execute("CREATE TABLE result (seq bigint, data jsonb)").unwrap();

    let work = |n: u64, done: &Done| match n {
        1..=PROCESSORS => keep_on(&database, done, process),
        _ => keep_on(&database, done, publish_some),
    };
    while_others(PROCESSORS + 1, work, || {
        for round in 0..ROUNDS {
            thread::sleep(millis(fastrand::u64(50..900)));
            cluster.kill_9();
            cluster.boot();
            let mut client = database.connect();
            let twice =
                "SELECT count(*) FROM (SELECT FROM result GROUP BY seq HAVING count(*) > 1) t";
            assert_eq!(client.number(twice), 0, "processed twice, after round {round}");
        }
        client = database.connect();
    });

    let published = client.number("SELECT count(*) FROM sequin_stream.s");
    assert!(published > 100, "only {published} messages were published");
    let end = Instant::now() + seconds(60);
    while client.number("SELECT count(*) FROM result") < published {
        assert!(Instant::now() < end, "messages were lost\n{}", cluster.log_tail());
        process(&mut client).unwrap();
    }
    let same = "SELECT count(*) FROM sequin_stream.s JOIN result USING (seq, data)";
    assert_eq!(client.number(same), published);
    assert_eq!(client.number("SELECT count(*) FROM result"), published);
    thread::sleep(millis(1200));
    assert_eq!(client.receive("c", 1000, millis(300)).len(), 0, "an acked message came back");
}

fn process(client: &mut Client) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    let held = transaction.try_receive("c", fastrand::i32(1..=20), millis(200))?;
    let mut seqs = Vec::new();
    let mut ack_ids = Vec::new();
    for delivery in held {
        seqs.push(delivery.seq);
        ack_ids.push(delivery.ack_id);
    }
    let insert = "INSERT INTO result SELECT seq, data FROM sequin_stream.s WHERE seq = ANY ($1)";
    assert_eq!(transaction.execute(insert, &[&seqs])?, seqs.len() as u64);
    // A lease that ended meanwhile is somebody else's now, and so is the work.
    if transaction.try_ack("c", &ack_ids)? as usize != ack_ids.len() {
        return transaction.rollback();
    }
    transaction.commit()
}

fn publish_some(client: &mut Client) -> Result<(), Error> {
    thread::sleep(millis(5));
    let mut transaction = client.transaction()?;
    for _ in 0..fastrand::u32(1..5) {
        let key = format!("k.{}", fastrand::u32(..100));
        transaction.try_publish("s", &key, "{\"some\": \"data\"}")?;
    }
    if fastrand::u8(..5) == 0 { transaction.rollback() } else { transaction.commit() }
}
