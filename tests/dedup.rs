//! dedup_ids: what is published once under an id is there once, whatever commits, aborts or crashes.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use libtest_mimic::Trial;
use postgres::Client;
use postgres::error::SqlState;

use crate::calls::{Calls, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use crate::seed::Seed;
use sequin_testkit::cluster::{Cluster, Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        what_is_published_again_is_not_written,
        a_batch_publishes_each_id_once,
        a_publisher_waits_for_what_becomes_of_the_first,
        a_rollback_frees_the_id,
        an_id_is_free_a_window_after_the_commit,
        a_transaction_that_is_open_keeps_its_ids_across_turns,
        tables_take_turns_and_end_up_empty,
        ids_outlast_a_change_of_the_window,
        with_one_message_per_key_the_id_has_the_seq_that_the_message_has,
        ids_are_remembered_across_a_crash,
        each_id_is_there_once_after_races_aborts_and_crashes,
    ]
}

fn create(client: &mut Client, window: &str) {
    let create = format!("SELECT sequin.create_stream('s', dedup_window => '{window}')");
    client.batch_execute(&create).unwrap();
}

fn publish_as(id: &str) -> String {
    format!("SELECT sequin.publish('s', 'k', '1', dedup_id => '{id}')")
}

trait Publishes {
    fn publish_once(&mut self, id: &str) -> i64;
}

impl Publishes for Client {
    fn publish_once(&mut self, id: &str) -> i64 {
        self.number(&publish_as(id))
    }
}

fn what_is_published_again_is_not_written() {
    let database = database("dedup_again");
    let mut client = database.connect();
    create(&mut client, "2 min");
    client.create("other", "c", "");
    let first = client.publish_once("a");
    assert_eq!(client.publish_once("a"), first);
    let changed = "SELECT sequin.publish('s', 'another.key', '2', '{\"h\": 1}', dedup_id => 'a')";
    assert_eq!(client.number(changed), first, "whatever key, data and headers are");
    assert_eq!(client.publish_once("b"), first + 1, "duplicates take no seqs");
    assert_eq!(client.publish("s", "k", "1"), first + 2);
    // Not across streams.
    assert_eq!(client.number("SELECT sequin.publish('other', 'k', '1', dedup_id => 'a')"), 1);

    let before = "SELECT sequin.published_before('s', 'b')";
    assert_eq!(client.number(before), first + 1);
    let unknown = "SELECT count(sequin.published_before('s', 'c'))";
    assert_eq!(client.number(unknown), 0);
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), 3);
    let total = "SELECT duplicates_total FROM sequin.stream_stats WHERE stream = 's'";
    assert_eq!(client.number(total), 2);
    // From another session, within a transaction, and in one that sees nothing new.
    let mut other = database.connect();
    other.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    let newest = client.publish_once("c");
    assert_eq!(other.publish_once("c"), newest);
    assert_eq!(other.publish_once("d"), newest + 1);
    assert_eq!(other.publish_once("d"), newest + 1);
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(client.publish_once("d"), newest + 1);
}

fn a_batch_publishes_each_id_once() {
    let database = database("dedup_batch");
    let mut client = database.connect();
    create(&mut client, "2 min");
    client.create_consumer("s", "c", "");
    let mut publish = |keys: &str, ids: &str| -> Vec<i64> {
        let data = "array_fill('1'::jsonb, ARRAY[cardinality($1::text[])])";
        let many = format!(
            "SELECT array(SELECT * FROM sequin.publish_many('s', $1, {data}, dedup_ids => $2::text::text[]))"
        );
        let keys: Vec<&str> = keys.split(',').collect();
        client.query_one(&many, &[&keys, &ids]).unwrap().get(0)
    };
    assert_eq!(publish("a,b,c,d", "{x,NULL,y,x}"), [1, 2, 3, 1]);
    assert_eq!(publish("a,b,c,d,e", "{y,z,NULL,x,z}"), [3, 4, 5, 1, 4]);
    assert_eq!(publish("a,b", "{x,y}"), [1, 3]);
    let got = client.drain("c", millis(300));
    assert_eq!(seqs(&got), [1, 2, 3, 4, 5]);
    let keys: Vec<_> = got.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "b", "c"]);

    // By the executor, since the table has another trigger.
    client
        .batch_execute(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER t BEFORE INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
        .unwrap();
    let many = "SELECT array(SELECT * FROM sequin.publish_many('s', '{f,g,h}', '{1,1,1}', dedup_ids => '{x,n,n}'))";
    let returned: Vec<i64> = client.query_one(many, &[]).unwrap().get(0);
    assert_eq!(returned, [1, 6, 6]);
    let got = client.drain("c", millis(300));
    assert_eq!(got.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["g"]);
}

/// Waits until a session waits for another transaction.
fn await_blocked(client: &mut Client, pid: i32) {
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock'"
    );
    wait_until("the second publisher waits", seconds(60), || client.number(&waits) == 1);
}

fn a_publisher_waits_for_what_becomes_of_the_first() {
    let database = database("dedup_waits");
    let mut client = database.connect();
    create(&mut client, "2 min");
    let mut race = |id: &str, end: &str, isolation: &str| {
        let mut first = database.connect();
        let mut second = database.connect();
        first.batch_execute("BEGIN").unwrap();
        second.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT 1")).unwrap();
        let given = first.publish_once(id);
        let pid = second.backend_pid();
        let got = thread::scope(|scope| {
            let second = scope.spawn(|| {
                let row = second.query_one(&publish_as(id), &[]);
                second.batch_execute("COMMIT").unwrap();
                row.map(|row| row.get(0))
            });
            await_blocked(&mut client, pid);
            first.batch_execute(end).unwrap();
            second.join().unwrap()
        });
        let published = got.as_ref().copied().unwrap_or(given);
        assert_eq!(client.publish_once(id), published, "{end} in {isolation}");
        got.map(|seq: i64| seq == given)
    };
    assert!(race("1", "COMMIT", "READ COMMITTED").unwrap());
    assert!(!race("2", "ROLLBACK", "READ COMMITTED").unwrap());
    assert!(!race("3", "ROLLBACK", "REPEATABLE READ").unwrap());
    // It can't see what the other has committed.
    assert_eq!(sqlstate(race("4", "COMMIT", "REPEATABLE READ")), "40001");
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), 4);
}

fn a_rollback_frees_the_id() {
    let database = database("dedup_rollback");
    let mut client = database.connect();
    create(&mut client, "2 min");
    client.batch_execute("BEGIN; SAVEPOINT s").unwrap();
    let lost = client.publish_once("a");
    client.batch_execute("ROLLBACK TO s").unwrap();
    let kept = client.publish_once("a");
    assert_ne!(lost, kept);
    assert_eq!(client.publish_once("a"), kept);
    client.batch_execute("ROLLBACK").unwrap();
    let seq = client.publish_once("a");
    assert!(seq > kept);
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), 1);
}

fn an_id_is_free_a_window_after_the_commit() {
    let database = database("dedup_window");
    let mut client = database.connect();
    // Another stream, with another window, shares the tables.
    client.batch_execute("SELECT sequin.create_stream('long')").unwrap();
    create(&mut client, "2 s");
    let publish = |client: &mut Client, id: &str| (client.publish_once(id), Instant::now());
    let (first, committed) = publish(&mut client, "a");
    let mut again = first;
    wait_until("the id is free", seconds(60), || {
        again = client.publish_once("a");
        again != first
    });
    assert!(committed.elapsed() >= seconds(2), "after {:?}", committed.elapsed());
    assert_eq!(client.publish_once("a"), again, "and remembered anew");

    // The window begins with the commit, however long ago the call was.
    client.batch_execute("BEGIN").unwrap();
    let given = client.publish_once("b");
    client.batch_execute("SELECT pg_sleep(3); COMMIT").unwrap();
    let committed = Instant::now();
    let mut other = database.connect();
    wait_until("the id is free", seconds(60), || other.publish_once("b") != given);
    assert!(committed.elapsed() >= seconds(2), "after {:?}", committed.elapsed());
}

fn turns(client: &mut Client) -> Vec<String> {
    let turns = "SELECT turn FROM sequin.dedup_tables WHERE number < 5 ORDER BY number";
    client.query(turns, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn a_transaction_that_is_open_keeps_its_ids_across_turns() {
    let database = database("dedup_open");
    let mut client = database.connect();
    create(&mut client, "1 s");
    let mut open = database.connect();
    open.batch_execute("BEGIN").unwrap();
    let given = open.publish_once("held");
    // Others publish on, and the tables take turns as far as they can.
    let before = turns(&mut client);
    let mut n = 0;
    wait_until("another table's turn", seconds(60), || {
        n += 1;
        client.publish_once(&format!("other {n}"));
        turns(&mut client) != before
    });
    assert!(turns(&mut client).contains(&"closing".to_string()), "{:?}", turns(&mut client));
    let mut second = database.connect();
    let pid = second.backend_pid();
    let got = thread::scope(|scope| {
        let second = scope.spawn(|| second.publish_once("held"));
        await_blocked(&mut client, pid);
        open.batch_execute("COMMIT").unwrap();
        second.join().unwrap()
    });
    assert_eq!(got, given);
    assert_eq!(client.publish_once("held"), given);
    assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s WHERE key = 'k'"), n + 1);
}

fn tables_take_turns_and_end_up_empty() {
    let database = database("dedup_turns");
    let mut client = database.connect();
    create(&mut client, "1 s");
    let running = "SELECT count(*) FROM sequin.workers WHERE process = 'janitor' AND database = current_database()";
    wait_until("no janitor runs", seconds(60), || client.number(running) == 0);
    for n in 0..100 {
        client.publish_once(&format!("id {n}"));
    }
    wait_until("the janitor runs", seconds(60), || client.number(running) == 1);
    let bytes =
        "SELECT sum(pg_relation_size('sequin.dedup_' || n))::bigint FROM generate_series(1, 8) n";
    assert!(client.number(bytes) > 0);
    wait_until("all is forgotten", seconds(60), || client.number(bytes) == 0);
    let all = turns(&mut client);
    assert_eq!(all.iter().filter(|turn| *turn == "current").count(), 1, "{all:?}");
    // One that is in use is not waited for: a dump of it, say.
    let mut reader = database.connect();
    reader.batch_execute("BEGIN; LOCK TABLE sequin.dedup_1, sequin.dedup_2, sequin.dedup_3, sequin.dedup_4 IN ACCESS SHARE MODE").unwrap();
    let first = client.publish_once("a");
    wait_until("the id is free", seconds(60), || client.publish_once("a") != first);
    reader.batch_execute("COMMIT").unwrap();
    wait_until("all is forgotten again", seconds(60), || client.number(bytes) == 0);
    let error = "SELECT count(last_error) FROM sequin.workers WHERE process = 'janitor' AND database = current_database()";
    assert_eq!(client.number(error), 0);
}

fn ids_outlast_a_change_of_the_window() {
    let database = database("dedup_alter");
    let mut client = database.connect();
    create(&mut client, "2 min");
    let alter = |client: &mut Client, window: &str| {
        let alter = format!("SELECT sequin.alter_stream('s', dedup_window => '{window}')");
        client.batch_execute(&alter).unwrap();
    };
    let a = client.publish_once("a");
    alter(&mut client, "1 day");
    assert_eq!(client.publish_once("a"), a);
    let b = client.publish_once("b");
    alter(&mut client, "1 min");
    assert_eq!((client.publish_once("a"), client.publish_once("b")), (a, b));

    // A change waits for open publishers: another one would look elsewhere for the id.
    let mut open = database.connect();
    open.batch_execute("BEGIN").unwrap();
    let c = open.publish_once("c");
    let mut changes = database.connect();
    let pid = changes.backend_pid();
    thread::scope(|scope| {
        scope.spawn(|| alter(&mut changes, "1 day"));
        await_blocked(&mut client, pid);
        open.batch_execute("COMMIT").unwrap();
    });
    assert_eq!(client.publish_once("c"), c);
    client.batch_execute("SELECT sequin.alter_stream('s', reset => '{dedup_window}')").unwrap();
    let window = "SELECT extract(epoch FROM dedup_window)::bigint FROM sequin.streams";
    assert_eq!(client.number(window), 120);
}

fn with_one_message_per_key_the_id_has_the_seq_that_the_message_has() {
    let database = database("dedup_upsert");
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.create_stream('s', one_message_per_key => true)").unwrap();
    let first = client.publish("s", "k", "1");
    // It says what is there already.
    assert_eq!(client.publish_once("a"), first);
    assert_eq!(client.number("SELECT sequin.published_before('s', 'a')"), first);
    let newer = client.number("SELECT sequin.publish('s', 'k', '2', dedup_id => 'b')");
    assert!(newer > first);
    assert_eq!(
        client.publish_once("a"),
        first,
        "its message is replaced, and it is not published again"
    );
    assert_eq!(client.number("SELECT data::text::int8 FROM sequin_stream.s"), 2);
}

fn ids_are_remembered_across_a_crash() {
    let cluster = Cluster::start();
    let database = cluster.database("dedup_crash");
    let mut client = database.connect();
    create(&mut client, "5 min");
    let first = client.publish_once("a");
    let mut open = database.connect();
    open.batch_execute("BEGIN").unwrap();
    let lost = open.publish_once("b");
    cluster.kill_9();
    cluster.boot();
    let mut client = database.connect();
    assert_eq!(client.publish_once("a"), first);
    let b = client.publish_once("b");
    assert_eq!(client.publish_once("b"), b);
    let all = "SELECT array_agg(seq ORDER BY seq) FROM sequin_stream.s";
    let all: Vec<i64> = client.query_one(all, &[]).unwrap().get(0);
    assert_eq!(all, [first, b], "{lost} was not committed");
}

const PUBLISHERS: usize = 8;

/// Publishers race for the same ids, chunk by chunk, three times each, with rollbacks, long transactions, and crashes of the
/// server in between. IDS sets how many.
fn each_id_is_there_once_after_races_aborts_and_crashes() {
    let ids: usize = std::env::var("IDS").map_or(4_000, |ids| ids.parse().unwrap());
    let seed = Seed::new();
    for window in ["5 s", "60 s"] {
        race(&seed, window, ids / 2);
    }
}

fn race(seed: &Seed, window: &str, ids: usize) {
    const CHUNK: usize = 250;
    let settings = "track_commit_timestamp = on\ndeadlock_timeout = 20ms\n";
    let cluster = Cluster::start_with(settings);
    let database = cluster.database("dedup_race");
    create(&mut database.connect(), window);
    let chunks = ids.div_ceil(CHUNK);
    for chunk in 0..chunks {
        let crashes = chunk % (chunks / 2).max(1) == 1;
        let begun = Barrier::new(PUBLISHERS + 1);
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let (database, begun) = (&database, &begun);
                let rng = seed.rng((chunk * PUBLISHERS + publisher) as u64);
                scope.spawn(move || {
                    begun.wait();
                    publish_chunk(database, chunk * CHUNK..(chunk + 1) * CHUNK, rng);
                });
            }
            begun.wait();
            if crashes {
                let mut client = database.connect();
                wait_until("the chunk has begun", seconds(60), || {
                    let some = format!(
                        "SELECT count(*) FROM sequin_stream.s WHERE data::int8 >= {}",
                        chunk * CHUNK
                    );
                    client.number(&some) > 20
                });
                cluster.kill_9();
                cluster.boot();
            }
        });
    }
    let mut client = database.connect();
    // Where the machine is slow, a window may end before an id is published for the last time.
    let too_soon = format!(
        "SELECT count(*) FROM (
            SELECT inserted_at, lag(pg_xact_commit_timestamp(xmin)) OVER (PARTITION BY data::int8 ORDER BY seq) AS before
            FROM sequin_stream.s) t
         WHERE inserted_at < before + interval '{window}'"
    );
    assert_eq!(client.number(&too_soon), 0, "window {window}: ids that were published again");
    let total = client.number("SELECT duplicates_total FROM sequin.stream_stats");
    assert!(total > 0, "no duplicates");
    let there = client.number("SELECT count(DISTINCT data::int8) FROM sequin_stream.s");
    assert_eq!(there, (chunks * CHUNK) as i64, "window {window}");
}

/// Publishes all these ids three times, each until it is known to be committed.
fn publish_chunk(database: &Database, ids: std::ops::Range<usize>, mut rng: Rng) {
    let mut all: Vec<usize> = ids.clone().chain(ids.clone()).chain(ids).collect();
    rng.shuffle(&mut all);
    let mut client = None;
    while !all.is_empty() {
        let left = all.len().saturating_sub(1 + rng.usize(..30));
        let some: HashSet<usize> = all[left..].iter().copied().collect();
        let connected = client.get_or_insert_with(|| connect(database));
        match publish_some(connected, &some, &mut rng) {
            Ok(true) => all.truncate(left),
            Ok(false) => {}
            // Opposite orders get into deadlocks.
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
            Err(_) => client = None,
        }
    }
}

/// Connects when the server is up again.
fn connect(database: &Database) -> Client {
    let mut client = None;
    wait_until("the server is up", seconds(120), || {
        client = database.cluster.try_connect(&database.name).ok();
        client.is_some()
    });
    client.unwrap()
}

/// In one transaction; false if it was rolled back.
fn publish_some(
    client: &mut Client,
    ids: &HashSet<usize>,
    rng: &mut Rng,
) -> Result<bool, postgres::Error> {
    let names: Vec<String> = ids.iter().map(|id| format!("id {id}")).collect();
    let data: Vec<String> = ids.iter().map(usize::to_string).collect();
    let mut transaction = client.transaction()?;
    if rng.bool() {
        let many = "SELECT count(*) FROM sequin.publish_many('s', array_fill('k'::text, ARRAY[cardinality($1::text[])]),
                    $2::text[]::jsonb[], dedup_ids => $1)";
        transaction.query_one(many, &[&names, &data])?;
    } else {
        for (name, data) in names.iter().zip(&data) {
            let one = "SELECT sequin.publish('s', 'k', $1::text::jsonb, dedup_id => $2)";
            transaction.query_one(one, &[data, name])?;
        }
    }
    match rng.u32(..12) {
        0 | 1 => transaction.rollback().map(|()| false),
        2 => {
            // Sometimes open for longer than a table's turn, where the window is short.
            transaction.batch_execute("SELECT pg_sleep(3 * random() ^ 8)")?;
            transaction.commit().map(|()| true)
        }
        _ => transaction.commit().map(|()| true),
    }
}
