//! Streams with one message per key: in whatever way a message comes, it replaces the one of its key.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fastrand::Rng;
use libtest_mimic::Trial;
use postgres::Client;
use postgres::error::SqlState;

use crate::calls::{Calls, ack_ids, copy_by_dump, millis, seconds, seqs};
use crate::harness::{database, database_of, logical_cluster, trials};
use crate::seed::Seed;
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        every_way_of_publishing_replaces_the_message_of_its_key,
        a_publisher_waits_for_others_of_its_key_and_comes_after_them,
        what_a_transaction_did_not_see_fails_with_40001,
        a_rollback_brings_the_replaced_message_back,
        what_was_replaced_is_not_delivered,
        a_message_in_flight_is_waited_for_and_never_comes_back_when_it_was_replaced,
        a_deleted_key_is_told,
        publish_many_does_not_deadlock_with_itself,
        foreign_keys_and_triggers_of_the_owner_are_obeyed,
        a_trigger_may_publish_to_another_stream_of_that_kind,
        a_publisher_needs_no_right_but_insert,
        repair_stream_makes_what_keeps_one_message_of_each_key,
        it_is_in_a_dump_and_data_alone_keeps_its_seqs,
        a_source_keeps_the_last_change_of_each_row,
        the_last_version_of_every_key_is_seen_and_none_after_a_newer_one,
    ]
}

fn create(client: &mut Client, consumer: &str) {
    client.batch_execute("SELECT sequin.create_stream('s', one_message_per_key => true)").unwrap();
    client.create_consumer("s", consumer, "");
}

/// The stream's messages: key, data, seq.
fn messages(client: &mut Client) -> Vec<(String, String, i64)> {
    let all = "SELECT key, data::text, seq FROM sequin_stream.s ORDER BY key";
    let rows = client.query(all, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn message(key: &str, data: &str, seq: i64) -> (String, String, i64) {
    (key.into(), data.into(), seq)
}

fn every_way_of_publishing_replaces_the_message_of_its_key() {
    let database = database("one_per_key_ways");
    let mut client = database.connect();
    create(&mut client, "c");

    assert_eq!(client.publish("s", "a", "1"), 1);
    assert_eq!(client.publish("s", "b", "1"), 2);
    assert_eq!(client.publish("s", "a", "2"), 3);
    assert_eq!(messages(&mut client), [message("a", "2", 3), message("b", "1", 2)]);

    // The same again: nothing is written, and the seq is that of the message that is there.
    assert_eq!(client.publish("s", "a", "2"), 3);
    assert_eq!(messages(&mut client), [message("a", "2", 3), message("b", "1", 2)]);
    let headers = "SELECT sequin.publish('s', 'a', '2', headers => '{\"h\": 1}')";
    let with_headers = client.number(headers);
    assert!(with_headers > 3, "other headers are another message");
    assert_eq!(client.number(headers), with_headers);

    let insert =
        "INSERT INTO sequin_stream.s (key, data) VALUES ('a', '3'), ('c', '1'), ('c', '2')";
    assert_eq!(client.execute(insert, &[]).unwrap(), 3);
    assert_eq!(
        client.execute("INSERT INTO sequin_stream.s (key, data) VALUES ('c', '2')", &[]).unwrap(),
        0
    );
    let found = messages(&mut client);
    assert_eq!(found.iter().map(|it| it.1.as_str()).collect::<Vec<_>>(), ["3", "1", "2"]);

    client.try_copy("s", "b\t5\nb\t6\nc\t2\n").unwrap();
    let found = messages(&mut client);
    assert_eq!(found.iter().map(|it| it.1.as_str()).collect::<Vec<_>>(), ["3", "6", "2"]);

    // A key twice in a call, one that is there already, and a new one.
    let many = "SELECT array(SELECT * FROM sequin.publish_many('s', '{d,a,d,e}', '{1,3,2,1}'::text[]::jsonb[]))";
    let before = found[0].2;
    let returned: Vec<i64> = client.query_one(many, &[]).unwrap().get(0);
    let found = messages(&mut client);
    assert_eq!(found.iter().map(|it| it.1.as_str()).collect::<Vec<_>>(), ["3", "6", "2", "2", "1"]);
    assert_eq!(returned[1..], [before, found[3].2, found[4].2]);
    assert!(returned[0] < returned[2], "the first of d was replaced in the same call");

    // PostgreSQL's own way: there is never a conflict.
    let upsert = "INSERT INTO sequin_stream.s (key, data) VALUES ('a', '9')
                  ON CONFLICT (key) DO UPDATE SET data = '\"conflict\"'";
    assert_eq!(client.execute(upsert, &[]).unwrap(), 1);
    assert_eq!(messages(&mut client)[0].1, "9");

    let mut got = client.drain("c", millis(300));
    got.sort_by_key(|it| it.key.clone());
    let all: Vec<_> = got.iter().map(|it| (it.key.clone(), it.data.clone(), it.seq)).collect();
    assert_eq!(all, messages(&mut client));
}

/// An INSERT takes its seq before it waits: it must not get in front of what the other has published meanwhile.
fn a_publisher_waits_for_others_of_its_key_and_comes_after_them() {
    let database = database("one_per_key_waits");
    let mut client = database.connect();
    create(&mut client, "c");
    for statement in [
        "INSERT INTO sequin_stream.s (key, data) VALUES ('a', '\"last\"')",
        "SELECT sequin.publish('s', 'a', '\"last\"')",
        "SELECT * FROM sequin.publish_many('s', '{a}', '{\"\\\"last\\\"\"}'::text[]::jsonb[])",
    ] {
        let mut first = database.connect();
        first.batch_execute("BEGIN").unwrap();
        first.publish("s", "a", "1");
        let mut second = database.connect();
        let pid = second.backend_pid();
        let newer = thread::scope(|scope| {
            scope.spawn(|| second.batch_execute(statement).unwrap());
            let waits = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'"
            );
            wait_until("the second waits", seconds(30), || client.number(&waits) == 1);
            // A key with which it has nothing to do is no reason to wait.
            client.publish("s", "b", &pid.to_string());
            let newer = first.publish("s", "a", "2");
            first.batch_execute("COMMIT").unwrap();
            newer
        });
        let found = messages(&mut client);
        assert!(found[0].2 > newer, "{statement}: {found:?} after {newer}");
        assert_eq!(found[0].1, "\"last\"", "{statement}");
        let got = client.drain("c", millis(300));
        let of_a: Vec<_> = got.iter().filter(|it| it.key == "a").collect();
        assert_eq!(of_a.last().map(|it| it.seq), Some(found[0].2), "{statement}");
        assert!(of_a.is_sorted_by_key(|it| it.seq), "{statement}: {of_a:?}");
    }
}

fn what_a_transaction_did_not_see_fails_with_40001() {
    let database = database("one_per_key_isolation");
    let mut client = database.connect();
    create(&mut client, "c");
    client.publish("s", "old", "1");
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for key in ["old", &format!("new_in_{}", level.len())] {
            let mut other = database.connect();
            other.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).unwrap();
            client.publish("s", key, &format!("\"{level}\""));
            let error = other.try_publish("s", key, "3").unwrap_err();
            assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{level} {key}");
        }
        let mut other = database.connect();
        other.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).unwrap();
        other.publish("s", "old", "5");
        other.publish("s", "old", "6");
        other.batch_execute("COMMIT").unwrap();
    }
    assert_eq!(messages(&mut client).len(), 3);
}

fn a_rollback_brings_the_replaced_message_back() {
    let database = database("one_per_key_rollback");
    let mut client = database.connect();
    create(&mut client, "c");
    let seq = client.publish("s", "a", "1");
    client.batch_execute("BEGIN").unwrap();
    client.publish("s", "a", "2");
    client.batch_execute("SAVEPOINT p").unwrap();
    client.publish("s", "a", "3");
    client.batch_execute("ROLLBACK TO p").unwrap();
    assert_eq!(messages(&mut client)[0].1, "2");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(messages(&mut client), [message("a", "1", seq)]);
    assert_eq!(seqs(&client.drain("c", millis(300))), [seq]);
}

fn what_was_replaced_is_not_delivered() {
    let database = database("one_per_key_undelivered");
    let mut client = database.connect();
    create(&mut client, "c");
    // The dispatcher has read it ..
    client.create_consumer("s", "paused", "");
    client.publish("s", "a", "1");
    assert_eq!(client.receive("c", 1, seconds(10)).len(), 1);
    // .. and it is ready for this one when it is replaced.
    let newest = client.publish("s", "a", "2");
    assert_eq!(seqs(&client.receive("paused", 10, seconds(10))), [newest]);
    assert!(client.receive("paused", 10, millis(100)).is_empty());
}

fn a_message_in_flight_is_waited_for_and_never_comes_back_when_it_was_replaced() {
    let database = database("one_per_key_in_flight");
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.create_stream('s', one_message_per_key => true)").unwrap();
    client.create_consumer("s", "acks", "");
    client.create_consumer("s", "nacks", "");
    client.create_consumer("s", "expires", "ack_wait => '300 ms'");
    client.create_consumer("s", "unordered", "ordered => false");
    client.publish("s", "a", "1");
    let held: Vec<_> = ["acks", "nacks", "expires", "unordered"]
        .map(|consumer| (consumer, client.receive(consumer, 1, seconds(10))))
        .into();
    for (consumer, got) in &held {
        assert_eq!(got.len(), 1, "{consumer}");
    }
    client.publish("s", "a", "2");
    let newest = client.publish("s", "a", "3");
    assert_eq!(seqs(&client.receive("unordered", 10, seconds(10))), [newest]);
    for (consumer, got) in &held {
        match *consumer {
            "acks" => {
                assert!(client.receive(consumer, 10, millis(100)).is_empty());
                assert_eq!(client.ack(consumer, &ack_ids(got)), 1);
            }
            "nacks" | "unordered" => assert_eq!(client.nack(consumer, &ack_ids(got)), 1),
            _ => {}
        }
        if *consumer != "unordered" {
            let next = client.receive(consumer, 10, seconds(10));
            assert_eq!(seqs(&next), [newest], "{consumer}");
            client.ack(consumer, &ack_ids(&next));
        }
        assert!(client.receive(consumer, 10, millis(500)).is_empty(), "{consumer}");
    }
}

fn a_deleted_key_is_told() {
    let database = database("one_per_key_deleted");
    let mut client = database.connect();
    create(&mut client, "c");
    client.publish("s", "a", "1");
    let delete = |client: &mut Client, key: &str| -> Option<i64> {
        client.query_one("SELECT sequin.delete_key('s', $1)", &[&key]).unwrap().get(0)
    };
    assert_eq!(delete(&mut client, "b"), None);
    let seq = delete(&mut client, "a");
    assert_eq!(messages(&mut client), [message("a", "null", seq.unwrap())]);
    assert_eq!(delete(&mut client, "a"), seq, "it says so already");
    let is_told = "SELECT count(*) FROM sequin.receive('c', 10, wait => '10 s')
                   WHERE key = 'a' AND data = 'null' AND (headers->'sequin-deleted')::boolean";
    assert_eq!(client.number(is_told), 1);
    assert!(client.publish("s", "a", "1") > seq.unwrap());
    assert_eq!(messages(&mut client)[0].1, "1");

    client.batch_execute("SELECT sequin.create_stream('all_of_them')").unwrap();
    let error = client.query("SELECT sequin.delete_key('all_of_them', 'a')", &[]).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
}

fn publish_many_does_not_deadlock_with_itself() {
    let database = database("one_per_key_orders");
    let mut client = database.connect();
    create(&mut client, "c");
    thread::scope(|scope| {
        for n in 0..4 {
            let mut client = database.connect();
            let order = if n % 2 == 0 { "" } else { "DESC" };
            let many = format!(
                "SELECT * FROM sequin.publish_many('s', array(SELECT 'k.' || k FROM generate_series(1, 50) k ORDER BY k {order}),
                    array(SELECT to_jsonb($1::int) FROM generate_series(1, 50)))"
            );
            scope.spawn(move || {
                for round in 0..40 {
                    client.query(&many, &[&(round * 4 + n)]).unwrap();
                }
            });
        }
    });
    assert_eq!(messages(&mut client).len(), 50);
}

/// A message that another table refers to can't be replaced; the owner's trigger sees what is deleted.
fn foreign_keys_and_triggers_of_the_owner_are_obeyed() {
    let database = database("one_per_key_owner");
    let mut client = database.connect();
    create(&mut client, "c");
    let seq = client.publish("s", "a", "1");
    client
        .batch_execute(&format!(
            "CREATE TABLE refers (seq bigint REFERENCES sequin_stream.s); INSERT INTO refers VALUES ({seq});
             CREATE TABLE gone (seq bigint);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO public.gone VALUES (OLD.seq); RETURN OLD; END';
             CREATE TRIGGER note AFTER DELETE ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION note()"
        ))
        .unwrap();
    let error = client.try_publish("s", "a", "2").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION));
    client.batch_execute("DELETE FROM refers").unwrap();
    client.publish("s", "a", "2");
    assert_eq!(client.number("SELECT max(seq) FROM gone"), seq);
}

/// Each call returns the seqs of its own messages.
fn a_trigger_may_publish_to_another_stream_of_that_kind() {
    let database = database("one_per_key_nested");
    let mut client = database.connect();
    create(&mut client, "c");
    client
        .batch_execute(
            "SELECT sequin.create_stream('copies', one_message_per_key => true);
             CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM sequin.publish('copies', NEW.key, NEW.data);
                INSERT INTO sequin_stream.copies (key, data) VALUES (NEW.key || '.inserted', NEW.data);
                RETURN NEW;
             END $$;
             CREATE TRIGGER copy AFTER INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION copy()",
        )
        .unwrap();
    for round in 0..3 {
        for key in ["a", "b"] {
            let seq = client.publish("s", key, &round.to_string());
            assert!(messages(&mut client).contains(&message(key, &round.to_string(), seq)));
            assert_eq!(client.publish("s", key, &round.to_string()), seq);
        }
    }
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.copies"), 4);
}

fn a_publisher_needs_no_right_but_insert() {
    let database = database("one_per_key_rights");
    let mut client = database.connect();
    create(&mut client, "c");
    client
        .batch_execute(
            "CREATE ROLE one_per_key_publisher LOGIN; GRANT INSERT ON sequin_stream.s TO one_per_key_publisher;
             SET ROLE one_per_key_publisher",
        )
        .unwrap();
    client.publish("s", "a", "1");
    client.publish("s", "a", "2");
    client.batch_execute("INSERT INTO sequin_stream.s (key, data) VALUES ('a', '3')").unwrap();
    client.query("SELECT sequin.delete_key('s', 'a')", &[]).unwrap();
    assert!(client.batch_execute("SELECT * FROM sequin.key_locks").is_err());
    client
        .batch_execute("RESET ROLE; REVOKE INSERT ON sequin_stream.s FROM one_per_key_publisher")
        .unwrap();
    client.batch_execute("SET ROLE one_per_key_publisher").unwrap();
    for statement in ["SELECT sequin.publish('s', 'a', '4')", "SELECT sequin.delete_key('s', 'a')"]
    {
        let error = client.batch_execute(statement).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    client.batch_execute("RESET ROLE; DROP ROLE one_per_key_publisher").unwrap();
}

fn repair_stream_makes_what_keeps_one_message_of_each_key() {
    let database = database("one_per_key_repair");
    let mut client = database.connect();
    create(&mut client, "c");
    let found =
        |client: &mut Client| client.number("SELECT count(*) FROM sequin.repair_stream('s')");
    assert_eq!(found(&mut client), 0);
    client
        .batch_execute(
            "DROP TRIGGER on_upsert ON sequin_stream.s; ALTER TABLE sequin_stream.s DROP CONSTRAINT s_key_key;
             INSERT INTO sequin_stream.s (key, data) VALUES ('a', '1'), ('b', '1'), ('a', '2'), ('a', '3')",
        )
        .unwrap();
    assert_eq!(found(&mut client), 2);
    assert_eq!(found(&mut client), 0);
    let left: Vec<_> =
        messages(&mut client).into_iter().map(|(key, data, _)| key + &data).collect();
    assert_eq!(left, ["a3", "b1"]);
    client.batch_execute("ALTER TABLE sequin_stream.s DISABLE TRIGGER on_upsert").unwrap();
    let error = client.try_publish("s", "a", "4").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION), "nothing goes wrong in silence");
    assert_eq!(found(&mut client), 1);
    client.publish("s", "a", "4");
    assert_eq!(messages(&mut client).len(), 2);
}

fn it_is_in_a_dump_and_data_alone_keeps_its_seqs() {
    let from = database("one_per_key_dump");
    let mut client = from.connect();
    create(&mut client, "c");
    for n in 0..3 {
        client.publish_numbers("s", 10, 5 + n);
    }
    let expected = messages(&mut client);
    let is_listed = "SELECT count(*) FROM sequin.streams WHERE one_message_per_key";

    let whole = from.cluster.database_without_extension("one_per_key_whole");
    copy_by_dump(&from, &whole, &[]);
    let data = from.cluster.database("one_per_key_data");
    create(&mut data.connect(), "c");
    copy_by_dump(&from, &data, &["--data-only", "--table=sequin_stream.*"]);
    for copy in [&whole, &data] {
        let mut client = copy.connect();
        assert_eq!(messages(&mut client), expected, "{}", copy.name);
        assert_eq!(client.number(is_listed), 1, "{}", copy.name);
        let seq = client.publish("s", "k.1", "77");
        assert!(messages(&mut client).contains(&message("k.1", "77", seq)), "{}", copy.name);
        assert_eq!(messages(&mut client).len(), expected.len(), "{}", copy.name);
    }
}

fn a_source_keeps_the_last_change_of_each_row() {
    let database = database_of(logical_cluster(), "one_per_key_source");
    let mut client = database.connect();
    client
        .batch_execute(
            "SELECT sequin.create_stream('s', one_message_per_key => true);
             CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 1), (3, 1)",
        )
        .unwrap();
    client.batch_execute("SELECT sequin.create_source('src', 's', tables => '{t}')").unwrap();
    client
        .batch_execute("UPDATE t SET a = 2 WHERE id < 3; UPDATE t SET a = 3 WHERE id = 1; DELETE FROM t WHERE id = 2")
        .unwrap();
    let last =
        "SELECT string_agg(key || ' ' || coalesce(data->'record'->>'a', '-'), ', ' ORDER BY key)
                FROM sequin_stream.s";
    let expected = "public.t.1 3, public.t.2 -, public.t.3 1";
    wait_until("all is captured", seconds(60), || {
        let found: Option<String> = client.query_one(last, &[]).unwrap().get(0);
        found.as_deref() == Some(expected)
    });
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
}

/// How much the last test does: more of it with UPSERTS=2000000 KEYS=100000.
fn number_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

fn the_last_version_of_every_key_is_seen_and_none_after_a_newer_one() {
    let (upserts, keys) = (number_of("UPSERTS", 12_000), number_of("KEYS", 500));
    let cluster = Cluster::start();
    let database = cluster.database("one_per_key");
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.create_stream('s', one_message_per_key => true)").unwrap();
    let consumers = ["c1", "c2"];
    for consumer in consumers {
        client.create_consumer("s", consumer, "ack_wait => '2 s'");
    }
    let first = format!(
        "INSERT INTO sequin_stream.s (key, data) SELECT 'k.' || n, '0' FROM generate_series(0, {}) n",
        keys - 1
    );
    client.batch_execute(&first).unwrap();

    let (published, is_over) = (AtomicUsize::new(keys), AtomicBool::new(false));
    let seen = consumers.map(|_| Mutex::new(HashMap::<String, i64>::new()));
    let violations = Mutex::new(Vec::new());
    let seed = Seed::new();
    // After a crash, once the server is back.
    let connect = || {
        let mut client = None;
        wait_until("the server is there", seconds(60), || {
            client = cluster.try_connect(&database.name).ok();
            client.is_some()
        });
        client.unwrap()
    };
    thread::scope(|scope| {
        for n in 0..8 {
            let (connect, published, mut rng) = (&connect, &published, seed.rng(n));
            scope.spawn(move || {
                while published.load(Ordering::Relaxed) < upserts {
                    let mut client = connect();
                    while published.load(Ordering::Relaxed) < upserts {
                        match upsert(&mut client, &mut rng, keys) {
                            Ok(count) => published.fetch_add(count, Ordering::Relaxed),
                            Err(error) if is_expected(&error) => {
                                if client.batch_execute("ROLLBACK").is_err() {
                                    break;
                                }
                                0
                            }
                            Err(error) => panic!("{error:?}"),
                        };
                    }
                }
            });
        }
        for (consumer, seen) in consumers.iter().zip(&seen) {
            for _ in 0..2 {
                let (connect, is_over, violations) = (&connect, &is_over, &violations);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let mut client = connect();
                        while !is_over.load(Ordering::Relaxed) {
                            let Ok(got) = client.try_receive(consumer, 100, millis(500)) else {
                                break;
                            };
                            for it in &got {
                                let mut seen = seen.lock().unwrap();
                                let newest = seen.entry(it.key.clone()).or_insert(0);
                                if it.seq < *newest {
                                    let facts = format!("{consumer}: {it:?} after {newest}");
                                    violations.lock().unwrap().push(facts);
                                }
                                *newest = it.seq;
                            }
                            if client.try_ack(consumer, &ack_ids(&got)).is_err() {
                                break;
                            }
                        }
                    }
                });
            }
        }
        for share in [3, 6] {
            wait_until("some have been published", seconds(600), || {
                published.load(Ordering::Relaxed) >= upserts * share / 9
            });
            cluster.kill_9();
            cluster.boot();
        }
        wait_until("all have been published", seconds(600), || {
            published.load(Ordering::Relaxed) >= upserts
        });
        let mut client = database.connect();
        let versions = "SELECT key, seq FROM sequin_stream.s";
        wait_until("the last versions have been seen", seconds(600), || {
            let rows = client.query(versions, &[]).unwrap();
            let last: HashMap<String, i64> = rows.iter().map(|it| (it.get(0), it.get(1))).collect();
            seen.iter().all(|seen| *seen.lock().unwrap() == last)
        });
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(violations.into_inner().unwrap(), Vec::<String>::new());
    let mut client = database.connect();
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), keys as i64);
}

/// Publishes some messages in one of the ways, and returns how many.
fn upsert(client: &mut Client, rng: &mut Rng, keys: usize) -> Result<usize, postgres::Error> {
    let count = 1 + rng.usize(..20);
    let some: Vec<String> = (0..count).map(|_| format!("k.{}", rng.usize(..keys))).collect();
    let data: Vec<String> = (0..count).map(|_| rng.u32(..50).to_string()).collect();
    let values = || {
        let rows = some.iter().zip(&data).map(|(key, data)| format!("('{key}', '{data}')"));
        rows.collect::<Vec<_>>().join(", ")
    };
    match rng.u32(..7) {
        0 => {
            client.try_publish("s", &some[0], &data[0])?;
            return Ok(1);
        }
        1 => client
            .execute(
                "SELECT FROM sequin.publish_many('s', $1, $2::text[]::jsonb[])",
                &[&some, &data],
            )
            .map(drop)?,
        2 => client.batch_execute(&format!(
            "INSERT INTO sequin_stream.s (key, data) VALUES {}",
            values()
        ))?,
        3 => client.batch_execute(&format!(
            "INSERT INTO sequin_stream.s (key, data) VALUES {}
             ON CONFLICT (key) DO UPDATE SET data = '\"conflict\"'",
            values()
        ))?,
        4 => {
            let rows = some.iter().zip(&data).map(|(key, data)| format!("{key}\t{data}\n"));
            client.try_copy("s", &rows.collect::<String>())?;
        }
        5 => {
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
            for (key, data) in some.iter().zip(&data) {
                client.try_publish("s", key, data)?;
            }
            client.batch_execute("COMMIT")?;
        }
        _ => {
            client.batch_execute("BEGIN")?;
            client.try_publish("s", &some[0], &data[0])?;
            client.batch_execute("SAVEPOINT p")?;
            client.batch_execute(&format!(
                "INSERT INTO sequin_stream.s (key, data) VALUES {}",
                values()
            ))?;
            let end = ["COMMIT", "ROLLBACK TO p; COMMIT", "ROLLBACK"][rng.usize(..3)];
            client.batch_execute(&format!("SELECT pg_sleep(0.01); {end}"))?;
        }
    }
    Ok(count)
}

/// A deadlock, a conflict of REPEATABLE READ, and the end of the server.
fn is_expected(error: &postgres::Error) -> bool {
    let Some(code) = error.code() else { return true };
    [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code)
        || ["57", "08"].contains(&&code.code()[..2])
}
