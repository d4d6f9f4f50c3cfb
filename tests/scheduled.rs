//! Messages that are published later.

use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, copy_by_dump, millis, seconds, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_message_comes_when_it_is_due_and_not_before,
        what_is_past_is_published_at_once,
        a_rollback_schedules_nothing_and_a_late_commit_loses_nothing,
        an_earlier_message_wakes_the_scheduler,
        what_is_unscheduled_does_not_come,
        it_is_published_as_the_role_that_scheduled_it,
        what_is_refused_says_why_and_holds_nobody_up,
        a_locked_stream_and_a_locked_schedule_hold_nobody_up,
        what_waits_for_a_lock_is_put_off_and_not_refused,
        schedules_are_in_a_dump_and_go_with_their_stream,
        schedules_outlive_a_crash_and_come_once,
        the_scheduler_ends_when_there_is_nothing_to_do,
    ]
}

fn schedule(client: &mut Client, key: &str, when: &str) -> i64 {
    let schedule = "SELECT sequin.schedule('s', $1, '1', clock_timestamp() + $2::text::interval)";
    client.query_one(schedule, &[&key, &when]).unwrap().get(0)
}

fn keys(client: &mut Client) -> Vec<String> {
    let all = "SELECT key FROM sequin_stream.s ORDER BY seq";
    client.query(all, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn await_keys(client: &mut Client, expected: &[&str]) {
    wait_until(&format!("{expected:?}"), seconds(60), || keys(client) == expected);
}

fn a_message_comes_when_it_is_due_and_not_before() {
    let database = database("scheduled_due");
    let mut client = database.connect();
    client.create("s", "c", "");
    let begun = Instant::now();
    let publish = "SELECT count(sequin.publish('s', 'later', '2', '{\"h\": 1}', clock_timestamp() + interval '2 s'))";
    assert_eq!(client.number(publish), 0, "it has no seq yet");
    assert_eq!(client.publish("s", "now", "1"), 1);
    let scheduled = "SELECT count(*) FROM sequin.scheduled WHERE stream = 's' AND key = 'later' AND reason IS NULL";
    assert_eq!(client.number(scheduled), 1);
    let first = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&first), [1]);
    let second = client.receive("c", 10, seconds(60));
    assert!(begun.elapsed() >= seconds(2), "after {:?}", begun.elapsed());
    assert_eq!(seqs(&second), [2], "its seq is of that moment");
    assert_eq!((second[0].key.as_str(), second[0].data.as_str()), ("later", "2"));
    let age = "SELECT count(*) FROM sequin_stream.s WHERE inserted_at > clock_timestamp() - interval '1 min' AND headers = '{\"h\": 1}'";
    assert_eq!(client.number(age), 1);
    assert_eq!(client.number(scheduled), 0);
}

fn what_is_past_is_published_at_once() {
    let database = database("scheduled_past");
    let mut client = database.connect();
    client.create("s", "c", "");
    let past = "SELECT sequin.publish('s', 'a', '1', deliver_at => now() - interval '1 day')";
    assert_eq!(client.number(past), 1);
    assert!(schedule(&mut client, "b", "-1 day") > 0);
    await_keys(&mut client, &["a", "b"]);
    let once = "SELECT sequin.publish('s', 'a', '1', deliver_at => now() + interval '1 day', dedup_id => 'x')";
    assert_eq!(sqlstate(client.query_one(once, &[])), "22023");
    let never = "SELECT sequin.schedule('s', 'a', '1', 'infinity')";
    assert_eq!(sqlstate(client.query_one(never, &[])), "22023");
    assert_eq!(
        sqlstate(client.query_one("SELECT sequin.schedule('s', '', '1', now())", &[])),
        "22023"
    );
    let prepare = client.batch_execute(
        "BEGIN; SELECT sequin.schedule('s', 'a', '1', now() + interval '1 day'); PREPARE TRANSACTION 'p'",
    );
    assert_eq!(sqlstate(prepare), "0A000");
}

fn a_rollback_schedules_nothing_and_a_late_commit_loses_nothing() {
    let database = database("scheduled_late");
    let mut client = database.connect();
    client.create("s", "c", "");
    let mut late = database.connect();
    late.batch_execute("BEGIN").unwrap();
    schedule(&mut late, "late", "10 ms");
    let mut lost = database.connect();
    lost.batch_execute("BEGIN").unwrap();
    schedule(&mut lost, "lost", "10 ms");
    // Others have been published meanwhile, for a later time.
    schedule(&mut client, "a", "200 ms");
    await_keys(&mut client, &["a"]);
    schedule(&mut client, "b", "200 ms");
    await_keys(&mut client, &["a", "b"]);
    lost.batch_execute("ROLLBACK").unwrap();
    late.batch_execute("COMMIT").unwrap();
    await_keys(&mut client, &["a", "b", "late"]);
    schedule(&mut client, "c", "100 ms");
    await_keys(&mut client, &["a", "b", "late", "c"]);
}

fn an_earlier_message_wakes_the_scheduler() {
    let database = database("scheduled_earlier");
    let mut client = database.connect();
    client.create("s", "c", "");
    schedule(&mut client, "tomorrow", "1 day");
    let running = "SELECT count(*) FROM sequin.workers WHERE process = 'scheduler' AND database = current_database() AND pid > 0";
    wait_until("the scheduler runs", seconds(60), || client.number(running) == 1);
    for n in 0..20 {
        schedule(&mut client, &n.to_string(), "50 ms");
        let got = client.receive("c", 1, seconds(60));
        assert_eq!(got[0].key, n.to_string());
    }
    assert_eq!(client.number("SELECT count(*) FROM sequin.scheduled"), 1);
}

fn what_is_unscheduled_does_not_come() {
    let database = database("scheduled_not");
    let mut client = database.connect();
    client.create("s", "c", "");
    let never = schedule(&mut client, "never", "1 s");
    schedule(&mut client, "a", "1 s");
    let mut unschedule = |id: i64| -> bool {
        client.query_one("SELECT sequin.unschedule($1)", &[&id]).unwrap().get(0)
    };
    assert!(unschedule(never));
    assert!(!unschedule(never));
    assert!(!unschedule(1_000_000));
    await_keys(&mut client, &["a"]);
}

fn it_is_published_as_the_role_that_scheduled_it() {
    let database = database("scheduled_role");
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(
            "CREATE TABLE seen (who text, rights text);
             GRANT INSERT ON seen TO PUBLIC;
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.seen VALUES (current_user, (SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user)); RETURN NULL; END';
             CREATE TRIGGER look AFTER INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION look();
             CREATE ROLE scheduled_writer LOGIN; CREATE ROLE scheduled_other LOGIN;
             SELECT sequin.grant_publish('s', 'scheduled_writer')",
        )
        .unwrap();
    client.batch_execute("SET ROLE scheduled_writer").unwrap();
    let id = schedule(&mut client, "a", "100 ms");
    let mine = schedule(&mut client, "b", "1 day");
    client.batch_execute("SET ROLE scheduled_other").unwrap();
    assert_eq!(client.number("SELECT count(*) FROM sequin.scheduled"), 0, "another role's");
    let unschedule = format!("SELECT sequin.unschedule({mine})");
    assert_eq!(sqlstate(client.query_one(&unschedule, &[])), "42501");
    let not_mine = "SELECT sequin.schedule('s', 'a', '1', now())";
    assert_eq!(sqlstate(client.query_one(not_mine, &[])), "42501");
    client.batch_execute("RESET ROLE").unwrap();
    await_keys(&mut client, &["a"]);
    let row = client.query_one("SELECT who, rights FROM seen", &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("scheduled_writer", "false"), "schedule {id}");

    // A right that is gone when it is due.
    client.batch_execute("SET ROLE scheduled_writer").unwrap();
    schedule(&mut client, "c", "1 s");
    client
        .batch_execute("RESET ROLE; REVOKE INSERT ON sequin_stream.s FROM scheduled_writer")
        .unwrap();
    let reason = "SELECT count(*) FROM sequin.scheduled WHERE key = 'c' AND reason LIKE 'permission denied%'";
    wait_until("it is refused", seconds(60), || client.number(reason) == 1);
    assert_eq!(keys(&mut client), ["a"]);
    client
        .batch_execute("DELETE FROM sequin.schedules; DROP ROLE scheduled_writer, scheduled_other")
        .unwrap();
}

fn what_is_refused_says_why_and_holds_nobody_up() {
    let database = database("scheduled_refused");
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN IF NEW.key = 'bad' THEN RAISE 'not this one'; END IF; RETURN NEW; END$$;
             CREATE TRIGGER refuse BEFORE INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION refuse();
             SELECT sequin.create_stream('gone')",
        )
        .unwrap();
    let all = "BEGIN; SELECT sequin.schedule('gone', 'a', '1', now() + interval '500 ms');
        SELECT sequin.schedule('s', k, '1', now() + interval '500 ms') FROM unnest('{a,bad,b,bad,c}'::text[]) k; COMMIT";
    client.batch_execute(all).unwrap();
    client.batch_execute("DROP TABLE sequin_stream.gone").unwrap();
    await_keys(&mut client, &["a", "b", "c"]);
    let reasons = "SELECT array_agg(stream || ' ' || key || ': ' || reason ORDER BY id) FROM sequin.scheduled";
    let reasons: Vec<String> = client.query_one(reasons, &[]).unwrap().get(0);
    let expected =
        ["gone a: stream \"gone\" does not exist", "s bad: not this one", "s bad: not this one"];
    assert_eq!(reasons, expected);
    // They are not tried again, and can be deleted.
    let id = client.number("SELECT max(id) FROM sequin.scheduled");
    let deleted: bool = client.query_one("SELECT sequin.unschedule($1)", &[&id]).unwrap().get(0);
    assert!(deleted);
}

fn a_locked_stream_and_a_locked_schedule_hold_nobody_up() {
    let database = database("scheduled_locked");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.batch_execute("SELECT sequin.create_stream('locked')").unwrap();
    // More than a transaction of the scheduler's publishes.
    client
        .batch_execute(
            "SELECT sequin.schedule('locked', 'x', '1', clock_timestamp() + interval '1 s') FROM generate_series(1, 1500)",
        )
        .unwrap();
    let mut holder = database.connect();
    holder.batch_execute("BEGIN; LOCK TABLE sequin_stream.locked").unwrap();
    let kept = schedule(&mut client, "kept", "2 s");
    let mut other = database.connect();
    other.batch_execute(&format!("BEGIN; SELECT sequin.unschedule({kept})")).unwrap();
    schedule(&mut client, "a", "3 s");
    await_keys(&mut client, &["a"]);
    schedule(&mut client, "b", "100 ms");
    await_keys(&mut client, &["a", "b"]);
    holder.batch_execute("COMMIT").unwrap();
    let all = "SELECT count(*) FROM sequin_stream.locked";
    wait_until("what was held up comes", seconds(60), || client.number(all) == 1500);
    other.batch_execute("ROLLBACK").unwrap();
    await_keys(&mut client, &["a", "b", "kept"]);
    let error = "SELECT count(last_error) FROM sequin.workers WHERE process = 'scheduler' AND database = current_database()";
    assert_eq!(client.number(error), 0);
}

fn what_waits_for_a_lock_is_put_off_and_not_refused() {
    let database = database("scheduled_put_off");
    let mut client = database.connect();
    client.batch_execute("SELECT sequin.create_stream('s', one_message_per_key => true)").unwrap();
    let mut holder = database.connect();
    holder.batch_execute("BEGIN").unwrap();
    holder.publish("s", "held", "1");
    for _ in 0..20 {
        schedule(&mut client, "held", "0 s");
    }
    schedule(&mut client, "a", "1 ms");
    await_keys(&mut client, &["a"]);
    schedule(&mut client, "b", "1 ms");
    await_keys(&mut client, &["a", "b"]);
    holder.batch_execute("COMMIT").unwrap();
    let open = "SELECT count(*) FROM sequin.scheduled";
    wait_until("all are published", seconds(60), || client.number(open) == 0);
    assert_eq!(keys(&mut client).len(), 3);
}

fn schedules_are_in_a_dump_and_go_with_their_stream() {
    let database = database("scheduled_dump");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.batch_execute("SELECT sequin.create_stream('other')").unwrap();
    let id = schedule(&mut client, "a", "3 s");
    client
        .batch_execute("SELECT sequin.schedule('other', 'x', '1', now() + interval '1 day')")
        .unwrap();
    let copy = crate::harness::shared_cluster().database_without_extension("scheduled_restored");
    copy_by_dump(&database, &copy, &[]);
    let mut restored = copy.connect();
    await_keys(&mut restored, &["a"]);
    assert!(schedule(&mut restored, "b", "1 day") > id);
    client.batch_execute("SELECT sequin.drop_stream('other')").unwrap();
    await_keys(&mut client, &["a"]);
    assert_eq!(client.number("SELECT count(*) FROM sequin.schedules"), 0);
}

fn schedules_outlive_a_crash_and_come_once() {
    let cluster = Cluster::start();
    let database = cluster.database("scheduled_crash");
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(
            "SELECT sequin.schedule('s', n::text, '1', clock_timestamp() + n * interval '1 ms')
             FROM generate_series(1, 6000) n",
        )
        .unwrap();
    for crash in 1..=3 {
        let mut client = database.connect();
        let some =
            format!("SELECT count(*) FROM sequin_stream.s HAVING count(*) > {}", crash * 1000);
        wait_until("some are published", seconds(60), || {
            !client.query(&some, &[]).unwrap().is_empty()
        });
        cluster.kill_9();
        cluster.boot();
    }
    let mut client = database.connect();
    let all = "SELECT count(*) FROM sequin_stream.s";
    wait_until("all are published", seconds(120), || client.number(all) >= 6000);
    assert_eq!(client.number("SELECT count(DISTINCT key) FROM sequin_stream.s"), 6000);
    assert_eq!(client.number(all), 6000);
    assert_eq!(client.number("SELECT count(*) FROM sequin.schedules"), 0);
}

fn the_scheduler_ends_when_there_is_nothing_to_do() {
    let database = database("scheduled_end");
    let mut client = database.connect();
    client.create("s", "c", "");
    let shown = "SELECT count(*) FROM sequin.workers WHERE process = 'scheduler' AND database = current_database()";
    for n in 0..5 {
        wait_until("no scheduler", seconds(60), || client.number(shown) == 0);
        schedule(&mut client, &n.to_string(), "20 ms");
        let got = client.receive("c", 1, seconds(60));
        assert_eq!(got[0].key, n.to_string());
    }
    // Many sessions at the moment when it ends.
    thread::scope(|scope| {
        for session in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let mut client = database.connect();
                for n in 0..20 {
                    schedule(&mut client, &format!("{session}.{n}"), "0 s");
                    thread::sleep(millis(fastrand::u64(..30)));
                }
            });
        }
    });
    wait_until("all are published", seconds(60), || keys(&mut client).len() == 85);
}
