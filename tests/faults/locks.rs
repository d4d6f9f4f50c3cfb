//! Users' locks on sequin's tables and on streams: they delay what needs the table, for as long as they are held, and
//! nothing else.

use std::thread;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use postgres::Client;

use super::load::{self, SMALL};
use crate::calls::{Calls, ack_ids, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use crate::sources::{Fixture, Sources};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        all_goes_on_while_the_dispatchers_tables_are_locked,
        acks_wait_for_a_lock_on_their_table_and_nothing_else_does,
        a_locked_table_of_acks_delays_no_consumer_that_is_in_use,
        a_dispatcher_starts_while_the_table_of_acks_is_locked,
        a_locked_table_of_checkpoints_delays_no_consumer_however_many_there_are,
        a_journal_that_cannot_be_written_bounds_what_is_handed_out,
        a_journal_that_is_held_up_by_a_dead_letter_stops_no_other_consumer,
        a_dead_letter_of_a_locked_stream_keeps_no_other_journal_from_being_written,
        the_dispatcher_waits_for_no_row_that_a_user_has_locked,
        a_dead_letter_of_a_dropped_stream_keeps_no_other_journal_from_being_written,
        a_source_waits_for_a_locked_stream_and_goes_on_by_itself,
    ]
}

/// Far above what anything here takes, on a busy machine.
const DEADLINE: Duration = seconds(30);

/// Far above what a call takes that nothing delays, far below what it would take otherwise.
const SOON: Duration = seconds(2);

/// What must be processed under each lock, and after it.
const SOME: usize = 50;

/// Has a table to itself until COMMIT.
fn lock(locker: &mut Client, table: &str) {
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    locker.batch_execute(&lock).unwrap();
}

fn all_goes_on_while_the_dispatchers_tables_are_locked() {
    let cluster = Cluster::start();
    let database = cluster.database("locked_journals");
    let mut locker = database.connect();
    load::prepare(&mut locker);
    let tables = ["outbox", "checkpoints", "all_dead_letters", "streams", "consumers", "sources"];
    let (_, known) = load::during(&database, SMALL, |load| {
        for table in tables {
            load.wait_for_more(SOME);
            lock(&mut locker, &format!("sequin.{table}"));
            load.wait_for_more(SOME);
            locker.batch_execute("COMMIT").unwrap();
        }
        load.wait_for_more(SOME);
    });
    known.assert_failed_only_with(&[]);
    load::settle(&mut locker, &known);
}

fn acks_wait_for_a_lock_on_their_table_and_nothing_else_does() {
    let cluster = Cluster::start();
    let database = cluster.database("locked_acks");
    let (mut locker, mut client) = (database.connect(), database.connect());
    load::prepare(&mut locker);
    client.create("t", "d", "");
    let (_, known) = load::during(&database, SMALL, |load| {
        load.wait_for_more(SOME);
        lock(&mut locker, "sequin.acks");
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted
                       AND relation = 'sequin.acks'::regclass";
        wait_until("all workers wait for it", DEADLINE, || client.number(waiting) >= 4);
        // Consumers that are new to the dispatcher are another matter: their acks are to be read.
        for _ in 0..20 {
            let before = load.known().published.len();
            wait_until("publishers go on", DEADLINE, || load.known().published.len() > before);
        }
        locker.batch_execute("COMMIT").unwrap();
        load.wait_for_more(SOME);
    });
    known.assert_failed_only_with(&[]);
    load::settle(&mut locker, &known);
    let seq = client.publish("t", "a", "1");
    assert_eq!(seqs(&client.receive("d", 1, seconds(10))), [seq]);
}

/// Each that is not in use yet is read with its acks, and waits for them a moment; together they would wait for long.
fn a_locked_table_of_acks_delays_no_consumer_that_is_in_use() {
    const CONSUMERS: usize = 30;
    let database = database("locked_loading");
    let (mut locker, mut client) = (database.connect(), database.connect());
    client.create("t", "d", "");
    client.execute("SELECT sequin.create_stream('s')", &[]).unwrap();
    for n in 0..CONSUMERS {
        client.create_consumer("s", &format!("c{n}"), "");
    }
    client.publish_numbers("t", 10, 10);
    assert_eq!(client.receive("d", 1, seconds(10)).len(), 1);
    lock(&mut locker, "sequin.acks");
    let receivers: Vec<Client> = (0..CONSUMERS).map(|_| database.connect()).collect();
    let received = thread::scope(|scope| {
        let receive = |(n, mut client): (usize, Client)| {
            client.batch_execute("SET statement_timeout = '60 s'").unwrap();
            client.try_receive(&format!("c{n}"), 1, seconds(1))
        };
        let receiving: Vec<_> = (receivers.into_iter().enumerate())
            .map(|receiver| scope.spawn(move || receive(receiver)))
            .collect();
        let fails = "SELECT count(*) FROM sequin.workers
                     WHERE process = 'dispatcher' AND database = current_database()
                       AND last_error LIKE '%cannot read its state%'";
        wait_until("they are to be read", DEADLINE, || client.number(fails) == 1);
        client.batch_execute(&format!("SET statement_timeout = {}", SOON.as_millis())).unwrap();
        for _ in 0..5 {
            assert_eq!(client.receive("d", 1, seconds(10)).len(), 1);
        }
        // Who looks doesn't wait either, and is told.
        let told = "SELECT count(*) FROM sequin.consumer_stats WHERE ack_floor IS NULL
                    AND last_error LIKE '%cannot read its state%'";
        assert_eq!(client.number(told), CONSUMERS as i64);
        locker.batch_execute("COMMIT").unwrap();
        receiving.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(received.into_iter().all(|got| got.unwrap().is_empty()));
    let told = "SELECT count(*) FROM sequin.consumer_stats WHERE ack_floor IS NULL";
    assert_eq!(client.number(told), 0);
}

/// If it ended, it would be started again later and later, and not be there at once when the lock is gone.
fn a_dispatcher_starts_while_the_table_of_acks_is_locked() {
    let database = database("locked_start");
    let (mut locker, mut client) = (database.connect(), database.connect());
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    lock(&mut locker, "sequin.acks");
    let now: SystemTime = client.query_one("SELECT now()", &[]).unwrap().get(0);
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM sequin.workers
         WHERE process = 'dispatcher' AND database = current_database()",
        )
        .unwrap();
    let stays = "SELECT count(*) FROM sequin.workers
                 WHERE process = 'dispatcher' AND database = current_database() AND pid IS NOT NULL
                   AND since BETWEEN $1 AND now() - interval '1 s'";
    wait_until("a new one stays", DEADLINE, || {
        client.query_one(stays, &[&now]).unwrap().get::<_, i64>(0) == 1
    });
    locker.batch_execute("COMMIT").unwrap();
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [seq]);
}

/// Each that has something to save waits for the table a moment; together they would wait for long.
fn a_locked_table_of_checkpoints_delays_no_consumer_however_many_there_are() {
    const CONSUMERS: i64 = 100;
    /// Many times what one lock_timeout of the dispatcher takes, a fraction of what one for each consumer does.
    const BOUND: &str = "SET statement_timeout = '5 s'";
    let database = database("locked_checkpoints");
    let (mut locker, mut client) = (database.connect(), database.connect());
    client.execute("SELECT sequin.create_stream('s')", &[]).unwrap();
    for n in 1..=CONSUMERS {
        client.create_consumer("s", &format!("c{n}"), "");
    }
    // All at nearly the same moment: so all are due to be saved at the same moment.
    let round = |client: &mut Client| {
        client.publish("s", "a", "1");
        let each = format!(
            "SELECT sum(sequin.ack('c' || n, ARRAY[ack_id]))
             FROM generate_series(1, {CONSUMERS}) n, sequin.receive('c' || n, 1, '10 s')"
        );
        assert_eq!(client.number(&each), CONSUMERS);
    };
    round(&mut client);
    let unsaved = "SELECT count(*) FROM sequin.acks";
    wait_until("all is saved", DEADLINE, || client.number(unsaved) == 0);
    lock(&mut locker, "sequin.checkpoints");
    client.batch_execute(BOUND).unwrap();
    let fails = "SELECT count(*) FROM sequin.workers
                 WHERE process = 'dispatcher' AND database = current_database()
                   AND last_error LIKE '%cannot write a checkpoint%'";
    wait_until("checkpoints are due", DEADLINE, || {
        round(&mut client);
        client.number(fails) == 1
    });
    round(&mut client);
    locker.batch_execute("COMMIT").unwrap();
    wait_until("all is saved afterwards", DEADLINE, || client.number(unsaved) == 0);
}

fn a_journal_that_cannot_be_written_bounds_what_is_handed_out() {
    const BATCH: i32 = 1000;
    let database = database("locked_outbox");
    let (mut locker, mut client) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", BATCH, BATCH);
    assert_eq!(client.in_flight("c"), 0, "its state is to be read before");
    lock(&mut locker, "sequin.outbox, sequin.checkpoints");
    // Each round is as many events as the batch has messages.
    client.batch_execute("SET statement_timeout = '5 s'").unwrap();
    wait_until("it hands out no more", DEADLINE, || {
        match client.try_receive("c", BATCH, millis(0)) {
            Ok(held) => {
                assert!(!held.is_empty(), "an empty answer, and messages are there");
                assert_eq!(client.nack("c", &ack_ids(&held)) as usize, held.len());
                false
            }
            result => sqlstate(result) == "57014",
        }
    });
    client.batch_execute("RESET statement_timeout").unwrap();
    // Who waits then is served when it can be written again.
    let mut waiter = database.connect();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            waiter.batch_execute("SET statement_timeout = '60 s'").unwrap();
            let held = waiter.receive("c", 1, 2 * DEADLINE);
            waiter.nack("c", &ack_ids(&held))
        });
        let waits = "SELECT waiting FROM sequin.consumer_stats";
        wait_until("it waits", DEADLINE, || client.number(waits) == 1 || waiting.is_finished());
        locker.batch_execute("COMMIT").unwrap();
        wait_until("it is served", DEADLINE, || waiting.is_finished());
        assert_eq!(waiting.join().unwrap(), 1);
    });
    assert_eq!(client.drain("c", SOON).len(), BATCH as usize);
}

/// What waits to be written of one consumer, because its stream is locked, doesn't count against the others.
fn a_journal_that_is_held_up_by_a_dead_letter_stops_no_other_consumer() {
    const MANY: i32 = 1000;
    let database = database("held_up");
    let (mut locker, mut client) = (database.connect(), database.connect());
    client.create("s", "c", "ack_wait => '10 min'");
    client.create("t", "d", "");
    client.publish_numbers("s", MANY, MANY);
    let dying = "SELECT sequin.create_consumer('s', 'dying', max_deliver => 1)";
    client.batch_execute(dying).unwrap();
    let mut held = ack_ids(&client.receive("dying", MANY, seconds(10)));
    let last = held.pop().unwrap();
    assert_eq!(held.len() as i32, MANY - 1);
    lock(&mut locker, "sequin_stream.s");
    assert_eq!(client.nack("dying", &held), MANY - 1);
    // Its events pile up: each is of one delivery, whose deadline is no event.
    let pile_up = format!(
        "SELECT count(sequin.extend('dying', ARRAY[{last}::bigint])) FROM generate_series(1, 25000)"
    );
    assert_eq!(client.number(&pile_up), 25_000);
    client.batch_execute("SET statement_timeout = '5 s'").unwrap();
    for _ in 0..20 {
        let seq = client.publish("t", "a", "1");
        let got = client.receive("d", 1, seconds(10));
        assert_eq!(seqs(&got), [seq]);
        assert_eq!(client.ack("d", &ack_ids(&got)), 1);
    }
    locker.batch_execute("COMMIT").unwrap();
    let dead = "SELECT count(*) FROM sequin.dead_letters WHERE consumer = 'dying'";
    wait_until("the dead letters are written", DEADLINE, || {
        client.number(dead) == i64::from(MANY) - 1
    });
}

/// Consumer c of s has a message in flight that is dead when it is given back; d of t has many that aren't, so that
/// checkpoints, which are as large, are rare.
fn prepare_death(client: &mut Client) -> [Vec<i64>; 2] {
    const MANY: i32 = 1000;
    client.create("s", "c", "max_deliver => 1, ack_wait => '10 min'");
    client.create("t", "d", "ack_wait => '10 min'");
    client.publish("s", "a", "1");
    client.publish_numbers("t", MANY, MANY);
    let held = ["c", "d"].map(|consumer| ack_ids(&client.receive(consumer, MANY, seconds(10))));
    let saved = format!("SELECT count(*) FROM sequin.checkpoints WHERE cardinality(seqs) = {MANY}");
    wait_until("all is in a checkpoint", DEADLINE, || client.number(&saved) == 1);
    held
}

/// What becomes of d's messages is written down.
#[track_caller]
fn journal_of_d_works(client: &mut Client, held: &[i64]) {
    assert_eq!(client.nack("d", &held[..1]), 1);
    let held = client.receive("d", 1, seconds(10));
    assert_eq!(held[0].deliver_count, 2);
    let written = "SELECT count(*) FROM sequin.outbox WHERE ack_id = $1";
    wait_until("the delivery is journalled", SOON, || {
        client.query_one(written, &[&held[0].ack_id]).unwrap().get::<_, i64>(0) == 1
    });
}

fn a_dead_letter_of_a_locked_stream_keeps_no_other_journal_from_being_written() {
    let database = database("locked_dead");
    let (mut locker, mut client) = (database.connect(), database.connect());
    let [c, d] = prepare_death(&mut client);
    lock(&mut locker, "sequin_stream.s");
    assert_eq!(client.nack("c", &c), 1);
    journal_of_d_works(&mut client, &d);
    let dead = "SELECT count(*) FROM sequin.dead_letters WHERE consumer = 'c'";
    assert_eq!(client.number(dead), 0);
    locker.batch_execute("COMMIT").unwrap();
    wait_until("the dead letter is written", DEADLINE, || client.number(dead) == 1);
}

/// Each in a transaction that stays open, while the dispatcher has a dead letter of the consumer to write.
fn the_dispatcher_waits_for_no_row_that_a_user_has_locked() {
    let ways = [
        "SELECT sequin.drop_consumer('c')",
        "SELECT 1 FROM sequin.consumers WHERE name = 'c' FOR UPDATE",
        // The message died before: then it was received again.
        "SELECT 1 FROM sequin.dead_letters FOR UPDATE",
        "SELECT sequin.redrive('c')",
        "DELETE FROM sequin.dead_letters",
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let database = database(&format!("locked_row_{n}"));
        let (mut locker, mut client) = (database.connect(), database.connect());
        let [c, d] = prepare_death(&mut client);
        let dead = "SELECT count(*) FROM sequin.dead_letters WHERE consumer = 'c'";
        let mut dying = c;
        if way.contains("dead_letters") || way.contains("redrive") {
            assert_eq!(client.nack("c", &dying), 1);
            wait_until("it is dead", DEADLINE, || client.number(dead) == 1);
            client.batch_execute("SELECT sequin.rewind('c', to_seq => 1)").unwrap();
            dying = ack_ids(&client.receive("c", 1, seconds(10)));
        }
        locker.batch_execute(&format!("BEGIN; {way}")).unwrap();
        assert_eq!(client.nack("c", &dying), 1, "{way}");
        let waits = "SELECT count(*) FROM pg_locks JOIN sequin.workers USING (pid)
                     WHERE NOT granted AND process = 'dispatcher'
                       AND sequin.workers.database = current_database()";
        for _ in 0..100 {
            assert_eq!(client.number(waits), 0, "{way}");
            client.batch_execute("SELECT pg_sleep(0.01)").unwrap();
        }
        journal_of_d_works(&mut client, &d);
        locker.batch_execute("ROLLBACK").unwrap();
        wait_until("the dead letter is written", DEADLINE, || client.number(dead) == 1);
    }
}

fn a_dead_letter_of_a_dropped_stream_keeps_no_other_journal_from_being_written() {
    let database = database("dropped_dead");
    let (mut locker, mut client) = (database.connect(), database.connect());
    let [c, d] = prepare_death(&mut client);
    locker.batch_execute("BEGIN; DROP TABLE sequin_stream.s").unwrap();
    assert_eq!(client.nack("c", &c), 1);
    client.receive("d", 1, millis(10));
    locker.batch_execute("COMMIT").unwrap();
    journal_of_d_works(&mut client, &d);
}

fn a_source_waits_for_a_locked_stream_and_goes_on_by_itself() {
    let mut fixture = Fixture::capturing(
        "locked_target",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)",
        &["t"],
    );
    let mut locker = fixture.database.connect();
    let client = &mut fixture.client;
    client.execute("SELECT sequin.create_stream('o')", &[]).unwrap();
    let other = "SELECT sequin.create_source('other', 'o', '{u}', backfill => false)";
    client.batch_execute(other).unwrap();
    let mut ids = 1..;
    for table in ["sequin_stream.s", "sequin.source_progress", "sequin.backfills", "t"] {
        let id = ids.next().unwrap();
        lock(&mut locker, table);
        locker.batch_execute(&format!("INSERT INTO t VALUES ({id})")).unwrap();
        locker.batch_execute("SAVEPOINT s").unwrap();
        if table == "sequin_stream.s" {
            client.batch_execute(&format!("INSERT INTO u VALUES ({id})")).unwrap();
            let captured = "SELECT count(*) FROM sequin_stream.o";
            client.wait_for("the other goes on", |client| client.number(captured) == 1);
        }
        locker.batch_execute("COMMIT").unwrap();
        client.catch_up();
    }
    client.wait_for("nothing is wrong any more", |client| client.status("src").1.is_empty());
    let messages = client.messages_after(0);
    let expected: Vec<String> = (1..=4).map(|id| format!(r#"insert t {{"id": {id}}}"#)).collect();
    assert_eq!(messages, expected);
}
