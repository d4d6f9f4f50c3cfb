//! Whoever waits for a message is in nobody's way: neither of DROP, nor of ALTER TABLE, nor of a shutdown.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, answer_to_waiter, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, Database, Stop, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        drop_extension_is_not_blocked_by_a_waiting_receiver,
        a_fast_shutdown_is_not_blocked_by_waiting_receivers,
        a_receiver_learns_at_once_that_its_table_is_dropped,
        a_receiver_learns_at_once_that_its_stream_is_dropped,
        a_receiver_learns_at_once_that_its_consumer_is_dropped,
        a_rolled_back_drop_disturbs_no_receiver,
        a_receiver_that_came_while_the_table_was_locked_holds_no_lock_on_it,
        an_alter_table_that_queues_before_a_waiting_receiver_can_read_delays_nobody,
        a_receiver_that_waits_in_a_transaction_holds_no_lock_for_what_it_received_before,
    ]
}

/// Far above what a command takes that nothing blocks.
const NOT_BLOCKED: Duration = seconds(5);
const UNDEFINED_OBJECT: &str = "42704";

/// Consumer c of stream s, and a session whose commands fail where something blocks them.
fn prepare(client: &mut Client) {
    client.create("s", "c", "");
    bound(client);
}

/// Its commands fail where something blocks them.
fn bound(client: &mut Client) {
    client.batch_execute(&format!("SET statement_timeout = {}", NOT_BLOCKED.as_millis())).unwrap();
}

fn drop_extension_is_not_blocked_by_a_waiting_receiver() {
    let database = database("way_extension");
    let mut client = database.connect();
    for _ in 0..3 {
        prepare(&mut client);
        let mut dropped = Duration::ZERO;
        let (answer, took) = answer_to_waiter(&database, || {
            let begun = Instant::now();
            client.batch_execute("DROP EXTENSION sequin CASCADE").unwrap();
            dropped = begun.elapsed();
        });
        assert!(dropped < NOT_BLOCKED, "DROP EXTENSION took {dropped:?}");
        assert!(took < NOT_BLOCKED, "the receiver has waited {took:?} longer");
        assert!(answer.is_err() || answer.is_ok_and(|got| got.is_empty()));
        client.batch_execute("DROP SCHEMA IF EXISTS sequin_stream CASCADE").unwrap();
        client.batch_execute("CREATE EXTENSION sequin").unwrap();
    }
}

fn a_fast_shutdown_is_not_blocked_by_waiting_receivers() {
    const RECEIVERS: usize = 20;
    let cluster = Cluster::start();
    let database = cluster.database("way_shutdown");
    let mut client = database.connect();
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    assert_eq!(client.receive("c", 1, seconds(10)).len(), 1);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..RECEIVERS)
            .map(|_| {
                let mut receiver = database.connect();
                scope.spawn(move || receiver.try_receive("c", 1, seconds(60)))
            })
            .collect();
        let stats = "SELECT waiting FROM sequin.consumer_stats";
        wait_until("all wait", seconds(30), || client.number(stats) == RECEIVERS as i64);
        let begun = Instant::now();
        cluster.stop(Stop::Fast);
        assert!(begun.elapsed() < seconds(10), "the shutdown took {:?}", begun.elapsed());
        for receiver in waiting {
            let state = sqlstate(receiver.join().unwrap());
            assert!(["57P01", ""].contains(&&*state), "{state}");
        }
    });
    cluster.boot();
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.rewind('c')").unwrap();
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
}

fn a_receiver_learns_at_once_that_its_table_is_dropped() {
    is_told_at_once("way_table", "DROP TABLE sequin_stream.s");
}

fn a_receiver_learns_at_once_that_its_stream_is_dropped() {
    is_told_at_once("way_stream", "SELECT sequin.drop_stream('s', force => true)");
}

fn a_receiver_learns_at_once_that_its_consumer_is_dropped() {
    is_told_at_once("way_consumer", "SELECT sequin.drop_consumer('c')");
}

/// Several times: between a commit and the moment when everybody knows of it there is little time.
fn is_told_at_once(name: &str, command: &str) {
    let database = database(name);
    let mut client = database.connect();
    client.create("t", "other", "");
    for _ in 0..20 {
        prepare(&mut client);
        let (answer, took) = answer_to_waiter(&database, || client.batch_execute(command).unwrap());
        assert_eq!(sqlstate(answer), UNDEFINED_OBJECT);
        assert!(took < NOT_BLOCKED, "the receiver was told after {took:?}");
        assert_eq!(sqlstate(client.try_receive("c", 1, seconds(60))), UNDEFINED_OBJECT);
        let seq = client.publish("t", "a", "1");
        let got = client.receive("other", 1, seconds(5));
        assert_eq!(seqs(&got), [seq]);
        assert_eq!(client.ack("other", &ack_ids(&got)), 1);
        let rest =
            "SELECT sequin.drop_stream('s', force => true) FROM sequin.streams WHERE name = 's'";
        client.batch_execute(rest).unwrap();
    }
}

fn a_rolled_back_drop_disturbs_no_receiver() {
    let database = database("way_rollback");
    let mut client = database.connect();
    prepare(&mut client);
    let drops = [
        "DROP TABLE sequin_stream.s",
        "SELECT sequin.drop_stream('s', force => true)",
        "SELECT sequin.drop_consumer('c')",
        "DROP EXTENSION sequin CASCADE",
    ];
    for command in drops {
        let mut seq = 0;
        let (answer, took) = answer_to_waiter(&database, || {
            client.batch_execute(&format!("BEGIN; {command}; ROLLBACK")).unwrap();
            seq = client.publish("s", "a", "1");
        });
        let got = answer.unwrap();
        assert_eq!(seqs(&got), [seq], "{command}");
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
        assert!(took < NOT_BLOCKED, "{command}: the receiver waited {took:?}");
    }
}

/// Has another session lock the table of s, begins to receive from its consumer c, which no dispatcher has read yet, and
/// runs `act` when the receiver waits for that lock. It must commit the locker, and have the
/// receiver get a message.
#[track_caller]
fn while_locked(name: &str, act: impl FnOnce(&Database, &mut Client, &mut Client) -> i64) {
    let database = database(name);
    let (mut locker, mut client) = (database.connect(), database.connect());
    prepare(&mut client);
    locker.batch_execute("BEGIN; LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut receiver = database.connect();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.try_receive("c", 1, seconds(60)));
        await_queued(&mut client, 1);
        let seq = act(&database, &mut locker, &mut client);
        assert_eq!(seqs(&waiting.join().unwrap().unwrap()), [seq]);
    });
}

/// So many sessions wait for a lock on the table of s.
#[track_caller]
fn await_queued(client: &mut Client, count: i64) {
    let queued = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sequin_stream.s'::regclass";
    wait_until("they wait for the lock", seconds(30), || client.number(queued) == count);
}

fn a_receiver_that_came_while_the_table_was_locked_holds_no_lock_on_it() {
    while_locked("way_locked", |_, locker, client| {
        locker.batch_execute("COMMIT").unwrap();
        wait_until("the receiver waits", seconds(30), || {
            client.number("SELECT waiting FROM sequin.consumer_stats") == 1
        });
        client.batch_execute("ALTER TABLE sequin_stream.s ADD COLUMN more int").unwrap();
        client.publish("s", "a", "1")
    });
}

fn an_alter_table_that_queues_before_a_waiting_receiver_can_read_delays_nobody() {
    while_locked("way_queued", |database, locker, client| {
        let mut altering = database.connect();
        bound(&mut altering);
        thread::scope(|scope| {
            let altering = scope.spawn(move || {
                altering.batch_execute("ALTER TABLE sequin_stream.s ADD COLUMN more int").unwrap();
            });
            await_queued(client, 2);
            locker.batch_execute("COMMIT").unwrap();
            altering.join().unwrap();
            client.publish("s", "a", "1")
        })
    });
}

fn a_receiver_that_waits_in_a_transaction_holds_no_lock_for_what_it_received_before() {
    let database = database("way_again");
    let (mut receiver, mut client) = (database.connect(), database.connect());
    prepare(&mut client);
    let first = client.publish("s", "a", "1");
    receiver.batch_execute("BEGIN").unwrap();
    assert_eq!(seqs(&receiver.receive("c", 1, seconds(10))), [first]);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.try_receive("c", 1, seconds(60)));
        wait_until("the receiver waits", seconds(30), || {
            client.number("SELECT waiting FROM sequin.consumer_stats") == 1
        });
        client.batch_execute("ALTER TABLE sequin_stream.s ADD COLUMN more int").unwrap();
        let second = client.publish("s", "b", "2");
        assert_eq!(seqs(&waiting.join().unwrap().unwrap()), [second]);
    });
}
