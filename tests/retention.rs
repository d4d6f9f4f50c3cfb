//! Retention: messages go when they are not to be kept any longer, none before, and nobody waits for it.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, copy_by_dump, millis, seconds, seqs};
use crate::harness::{database, shared_cluster, trials};
use crate::others::{keep_on, while_others};
use sequin_testkit::cluster::{Cluster, Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        old_messages_go_and_new_ones_come,
        a_single_message_goes_too,
        the_newest_messages_are_kept,
        the_newest_bytes_are_kept,
        messages_stay_until_all_consumers_have_finished_them,
        a_consumer_that_lags_goes_on_with_what_is_left,
        what_overruns_the_partitions_is_taken_in,
        readers_and_publishers_are_not_kept_waiting,
        what_is_in_the_way_is_said,
        a_plain_stream_gets_partitions_while_it_is_used,
        partitions_follow_their_owner,
        a_dump_carries_partitions,
        nothing_is_lost_by_crashes,
    ]
}

const LONG: Duration = seconds(60);

fn create(client: &mut Client, stream: &str, settings: &str) {
    client.batch_execute(&format!("SELECT sequin.create_stream('{stream}', {settings})")).unwrap();
}

fn count(client: &mut Client, stream: &str) -> i64 {
    client.number(&format!("SELECT count(*) FROM sequin_stream.{stream}"))
}

/// How many rows its partitions have that nobody sees.
const DEAD: &str = "SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
    WHERE schemaname = 'sequin_partition'";

/// Publishes a batch of messages of different keys in one call.
fn publish_many(client: &mut Client, stream: &str, count: i32) {
    let many = "SELECT count(*) FROM sequin.publish_many($1,
        (SELECT array_agg('k.' || n) FROM generate_series(1, $2) n), array_fill('1'::jsonb, ARRAY[$2]))";
    client.query_one(many, &[&stream, &count]).unwrap();
}

fn old_messages_go_and_new_ones_come() {
    let database = database("retention_age");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '2 s'");
    client.create_consumer("s", "c", "");
    let begun = Instant::now();
    let mut received = Vec::new();
    // For several times as long as messages are kept, so that partitions are used up, closed, emptied and dropped.
    while begun.elapsed() < seconds(8) {
        publish_many(&mut client, "s", 100);
        let batch = client.receive("c", 1000, seconds(5));
        assert_eq!(client.ack("c", &ack_ids(&batch)), batch.len() as i32);
        received.extend(seqs(&batch));
        // What is younger than two seconds is there.
        let young =
            "SELECT count(*) FROM sequin_stream.s WHERE inserted_at > now() - interval '1.5 s'";
        assert!(client.number(young) >= 100);
    }
    assert!(received.is_sorted_by(|a, b| a < b), "none twice, and in order");
    wait_until("all messages are gone", LONG, || count(&mut client, "s") == 0);
    let partitions = "SELECT partitions::bigint FROM sequin.stream_stats";
    wait_until("empty partitions are dropped", LONG, || client.number(partitions) < 20);
    assert_eq!(client.number(DEAD), 0);
    // And the stream works as before.
    let seq = client.publish("s", "k", "1");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
}

fn a_single_message_goes_too() {
    let database = database("retention_single");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 s'");
    for _ in 0..2 {
        client.publish("s", "k", "1");
        wait_until("it is gone", LONG, || count(&mut client, "s") == 0);
    }
}

fn the_newest_messages_are_kept() {
    let database = database("retention_count");
    let mut client = database.connect();
    create(&mut client, "s", "retain_messages => 2000");
    publish_many(&mut client, "s", 10_000);
    // What was published at once goes at once, when there are enough newer ones.
    wait_until("the others are gone", LONG, || {
        publish_many(&mut client, "s", 20);
        count(&mut client, "s") < 4000
    });
    let newest = "SELECT count(*) FROM sequin_stream.s";
    assert!(client.number(newest) >= 2000);
    let is_newest = "SELECT min(seq) > 10000 FROM sequin_stream.s";
    assert!(client.query_one(is_newest, &[]).unwrap().get::<_, bool>(0));
}

fn the_newest_bytes_are_kept() {
    let database = database("retention_bytes");
    let mut client = database.connect();
    create(&mut client, "s", "retain_bytes => 2000000");
    publish_many(&mut client, "s", 50_000);
    let bytes = "SELECT bytes FROM sequin.stream_stats";
    wait_until("the others are gone", LONG, || {
        publish_many(&mut client, "s", 200);
        client.number(bytes) < 6_000_000
    });
    assert!(client.number(bytes) >= 2_000_000);
}

fn messages_stay_until_all_consumers_have_finished_them() {
    let database = database("retention_acked");
    let mut client = database.connect();
    create(&mut client, "s", "retain_until_acked => true");
    publish_many(&mut client, "s", 100);
    client.create_consumer("s", "fast", "");
    client.create_consumer("s", "slow", "");
    assert_eq!(client.drain("fast", millis(300)).len(), 100);
    let held = client.receive("slow", 100, seconds(10));
    assert_eq!(held.len(), 100);
    assert_eq!(client.ack("slow", &ack_ids(&held[1..])), 99);
    // Long enough for a partition to be closed, and for several looks.
    let closed = "SELECT last_seq FROM sequin.stream_stats";
    wait_until("the partition is closed", LONG, || client.number(closed) >= 1000);
    publish_many(&mut client, "s", 1);
    assert_eq!(count(&mut client, "s"), 101);
    assert_eq!(client.ack("slow", &ack_ids(&held[..1])), 1);
    wait_until("they are gone", seconds(60), || count(&mut client, "s") <= 1);
    // Of the last one, too.
    assert_eq!(
        client.drain("fast", millis(300)).len() + client.drain("slow", millis(300)).len(),
        2
    );
    wait_until("the last one is gone", seconds(60), || count(&mut client, "s") == 0);
}

fn a_consumer_that_lags_goes_on_with_what_is_left() {
    let database = database("retention_lag");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 s'");
    client.create_consumer("s", "c", "");
    publish_many(&mut client, "s", 500);
    let held = client.receive("c", 10, seconds(10));
    assert_eq!(held.len(), 10);
    wait_until("all are gone", LONG, || count(&mut client, "s") == 0);
    // Those that it has loaded, and those that it hasn't, and those in flight.
    assert_eq!(client.receive("c", 10, millis(0)).len(), 0);
    assert_eq!(client.ack("c", &ack_ids(&held)), 10);
    let seq = client.publish("s", "k", "1");
    let got = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&got), [seq]);
    assert_eq!(client.ack("c", &ack_ids(&got)), 1);
}

fn what_overruns_the_partitions_is_taken_in() {
    let database = database("retention_rest");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 h'");
    client.create_consumer("s", "c", "");
    let rest = "SELECT count(*) FROM sequin_stream.s s JOIN pg_class c ON c.oid = s.tableoid
        WHERE pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'";
    client.publish_numbers("s", 50_000, 1000);
    let places = "SELECT md5(string_agg((tableoid, ctid)::text, ',' ORDER BY seq)) FROM sequin_stream.s WHERE seq <= 50000";
    let before: String = client.query_one(places, &[]).unwrap().get(0);
    assert!(client.number(rest) > 40_000);
    wait_until("the rest is a partition", LONG, || client.number(rest) == 0);
    let after: String = client.query_one(places, &[]).unwrap().get(0);
    assert_eq!(before, after, "a message has moved");
    let last = client.publish("s", "k", "1");
    assert_eq!(client.number(rest), 0);
    let got = client.drain("c", millis(500));
    assert_eq!(got.len(), 50_001);
    assert_eq!(seqs(&got).last(), Some(&last));
    let constraints = "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'sequin_rest%'";
    assert_eq!(client.number(constraints), 0);
}

/// Publishes until the end, and returns how long the slowest call has taken.
fn slowest_call(database: &Database, act: impl FnOnce()) -> Duration {
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    while_others(
        1,
        |_, done| {
            keep_on(database, done, |client| {
                let begun = Instant::now();
                client.query_one("SELECT sequin.publish('s', 'k', '1')", &[])?;
                let mut slowest = slowest.lock().unwrap();
                *slowest = begun.elapsed().max(*slowest);
                Ok(())
            });
        },
        act,
    );
    slowest.into_inner().unwrap()
}

fn readers_and_publishers_are_not_kept_waiting() {
    let database = database("retention_waits");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 s'");
    client.create_consumer("s", "c", "");
    let first = client.publish("s", "k", "1");
    let mut reader = database.connect();
    let mut publisher = database.connect();
    let slowest = slowest_call(&database, || {
        reader
            .batch_execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sequin_stream.s",
            )
            .unwrap();
        publisher.batch_execute("BEGIN; SELECT sequin.publish('s', 'open', '1')").unwrap();
        // Longer than messages are kept. The reader's messages stay, as does what is behind the open publisher.
        let blocked = "SELECT count(retention_blocked) FROM sequin.stream_stats";
        wait_until("it is said", LONG, || client.number(blocked) == 1);
        let seen = format!("SELECT count(*) FROM sequin_stream.s WHERE seq = {first}");
        assert_eq!(reader.number(&seen), 1);
        publisher.batch_execute("COMMIT").unwrap();
        reader.batch_execute("COMMIT").unwrap();
        wait_until("it is given back", seconds(30), || client.number(&seen) == 0);
        wait_until("nothing is in the way", seconds(30), || client.number(blocked) == 0);
    });
    // It waits for locks for 5 ms at most, and the machine may be busy; a reader or a publisher would last for seconds.
    assert!(slowest < seconds(3), "{slowest:?}");
}

fn what_is_in_the_way_is_said() {
    let database = database("retention_blocked");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 s'");
    let blocked = |client: &mut Client| -> Option<String> {
        client.query_one("SELECT retention_blocked FROM sequin.stream_stats", &[]).unwrap().get(0)
    };
    let mut other = database.connect();
    let pid = other.backend_pid();
    for (command, text) in [
        ("SELECT * FROM sequin_stream.s", "uses partition sequin_partition"),
        (
            "SELECT sequin.publish('s', 'k', '1')",
            "has published, and has not ended its transaction",
        ),
    ] {
        client.publish("s", "k", "1");
        other.batch_execute(&format!("BEGIN; {command}")).unwrap();
        let mut last = None;
        wait_until("it is said who", LONG, || {
            last = blocked(&mut client);
            last.as_ref().is_some_and(|it| it.contains(&format!("process {pid} {text}")))
        });
        other.batch_execute("COMMIT").unwrap();
        wait_until("it is said that it is over", LONG, || blocked(&mut client).is_none());
        wait_until("all are gone", LONG, || count(&mut client, "s") == 0);
    }
    // What PostgreSQL refuses.
    client
        .batch_execute("CREATE TABLE refers (seq bigint REFERENCES sequin_stream.s (seq))")
        .unwrap();
    client.publish("s", "k", "1");
    let is_said = |it: Option<String>| it.is_some_and(|it| it.contains("foreign key"));
    wait_until("it is said what", LONG, || is_said(blocked(&mut client)));
    client.batch_execute("DROP TABLE refers").unwrap();
    wait_until("all are gone", LONG, || count(&mut client, "s") == 0);
}

fn a_plain_stream_gets_partitions_while_it_is_used() {
    let database = database("retention_convert");
    let mut client = database.connect();
    client.create("s", "c", "ack_wait => '10 min'");
    client.publish_numbers("s", 3000, 100);
    let held = client.receive("c", 50, seconds(10));
    assert_eq!(held.len(), 50);
    client.query_one("SELECT sequin.publish('s', 'd', '1', dedup_id => 'd')", &[]).unwrap();

    // Publishers and workers go on meanwhile.
    let acked = std::sync::Mutex::new(Vec::new());
    while_others(
        2,
        |n, done| {
            keep_on(&database, done, |client| match n {
                1 => client.query_one("SELECT sequin.publish('s', 'live', '1')", &[]).map(drop),
                _ => {
                    let batch = client.try_receive("c", 20, millis(100))?;
                    let all = client.try_ack("c", &ack_ids(&batch))?;
                    if all == batch.len() as i32 {
                        acked.lock().unwrap().extend(seqs(&batch));
                    }
                    Ok(())
                }
            });
        },
        || {
            let some = |n: usize| acked.lock().unwrap().len() > n;
            wait_until("messages are received", LONG, || some(100));
            client
                .batch_execute("SELECT sequin.alter_stream('s', retain_for => '1 hour')")
                .unwrap();
            let before = acked.lock().unwrap().len();
            wait_until("more are received", LONG, || some(before + 200));
        },
    );
    assert_eq!(client.number("SELECT sequin.publish('s', 'd', '1', dedup_id => 'd')"), 3001);
    assert_eq!(client.ack("c", &ack_ids(&held)), 50);
    let mut all = acked.into_inner().unwrap();
    all.extend(seqs(&held));
    all.extend(seqs(&client.drain("c", millis(500))));
    let received = all.len() as i64;
    all.sort_unstable();
    all.dedup();
    let published = count(&mut client, "s");
    assert_eq!(all.len() as i64, published, "a message was lost");
    assert!(
        received <= published + 40,
        "{received} of {published}: more came again than were being acked"
    );
}

fn partitions_follow_their_owner() {
    let database = database("retention_owner");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '1 s'");
    client
        .batch_execute("CREATE ROLE retention_new_owner; ALTER TABLE sequin_stream.s OWNER TO retention_new_owner")
        .unwrap();
    let others =
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'sequin_partition'::regnamespace
        AND relkind = 'r' AND relowner <> 'retention_new_owner'::regrole";
    publish_many(&mut client, "s", 10);
    wait_until("all are the new owner's", LONG, || client.number(others) == 0);
    wait_until("messages go", LONG, || count(&mut client, "s") == 0);
    client.batch_execute("SELECT sequin.drop_stream('s'); DROP ROLE retention_new_owner").unwrap();
}

fn a_dump_carries_partitions() {
    let from = database("retention_dumped");
    let mut client = from.connect();
    create(&mut client, "s", "retain_for => '1 hour'");
    client.create_consumer("s", "c", "");
    client.publish_numbers("s", 1500, 1500);
    let got = client.receive("c", 100, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&got)), 100);
    let restored = shared_cluster().database_without_extension("retention_restored");
    copy_by_dump(&from, &restored, &[]);
    let mut client = restored.connect();
    assert_eq!(client.drain("c", millis(500)).len(), 1400);
    assert_eq!(client.publish("s", "k", "1"), 1501);
    assert_eq!(client.drain("c", seconds(10)).len(), 1);
    client.batch_execute("SELECT sequin.alter_stream('s', retain_for => '1 s')").unwrap();
    wait_until("messages go", LONG, || count(&mut client, "s") == 0);
}

fn nothing_is_lost_by_crashes() {
    let cluster = Cluster::start();
    let database = cluster.database("retention_crash");
    let mut client = database.connect();
    create(&mut client, "s", "retain_for => '3 s', retain_until_acked => true");
    client.create_consumer("s", "c", "ack_wait => '2 s'");
    let published = std::sync::Mutex::new(Vec::new());
    let mut acked = Vec::new();
    while_others(
        2,
        |_, done| {
            keep_on(&database, done, |client| {
                let row = client
                    .query_one("SELECT sequin.publish('s', 'k.' || pg_backend_pid(), '1')", &[])?;
                published.lock().unwrap().push(row.get::<_, i64>(0));
                Ok(())
            });
        },
        || {
            for _ in 0..3 {
                let begun = Instant::now();
                let mut client = database.connect();
                while begun.elapsed() < seconds(6) {
                    let batch = client.receive("c", 500, seconds(5));
                    client.ack("c", &ack_ids(&batch));
                    acked.extend(seqs(&batch));
                }
                drop(client);
                cluster.kill_9();
                cluster.boot();
            }
        },
    );
    let mut client = database.connect();
    acked.extend(seqs(&client.drain("c", seconds(5))));
    acked.sort_unstable();
    acked.dedup();
    for seq in published.into_inner().unwrap() {
        assert!(acked.binary_search(&seq).is_ok(), "message {seq} was published, and not received");
    }
    wait_until("all are gone", LONG, || count(&mut client, "s") == 0);
}
