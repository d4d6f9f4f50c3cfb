//! What an owner can do to a stream's table, its trigger and its sequence by ordinary SQL: messages go on to be delivered, or
//! it is refused, or receivers are told what was found and how it is repaired.

use std::time::Duration;

use libtest_mimic::Trial;
use postgres::{Client, Error};

use crate::calls::{
    Calls, ack_ids, answer_to_waiter, copy_by_dump, millis, seconds, seqs, sqlstate,
};
use crate::harness::{database, database_of, logical_cluster, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_receiver_is_told_at_once_of_what_an_owner_has_done_to_its_stream,
        a_receiver_is_told_of_a_sequence_that_was_set_back,
        a_sequence_that_was_set_forward_is_no_damage,
        a_renamed_trigger_is_no_damage,
        a_sequence_of_a_stream_is_not_restarted,
        a_copy_without_its_messages_and_sequences_says_so_and_is_repaired,
        what_lost_a_column_says_so,
        an_unlogged_stream_works_until_a_crash_that_is_told_of,
        a_stream_that_is_fine_is_repaired_without_a_word,
        messages_beyond_the_sequence_are_told_of_and_delivered_after_a_repair,
        a_message_at_the_end_of_all_seqs_is_in_nobodys_way_once_it_is_gone,
        what_a_trigger_or_a_rule_keeps_out_fails_its_publisher,
        a_change_that_a_rule_keeps_out_is_told_of_by_its_source,
        a_message_that_gets_a_new_seq_is_published_by_that,
        a_stream_has_no_relatives,
        a_dump_of_schemas_only_restores_streams_that_work,
        a_dump_of_schemas_only_takes_the_data_later,
    ]
}

const NOT_IN_PREREQUISITE_STATE: &str = "55000";
const DUPLICATE_OBJECT: &str = "42710";
const WRONG_OBJECT_TYPE: &str = "42809";
const NOT_SUPPORTED: &str = "0A000";

/// Far above what it takes to be told, far below what a receiver waits.
const AT_ONCE: Duration = seconds(10);

/// Consumer c of stream s has acked 3 messages, which are gone.
fn prepare(client: &mut Client) {
    client.create("s", "c", "");
    for seq in 1..=3 {
        assert_eq!(client.publish("s", "a", "1"), seq);
        let got = client.receive("c", 1, seconds(10));
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    }
    client.batch_execute("DELETE FROM sequin_stream.s").unwrap();
}

/// The answer is an error that says that the stream is damaged, and how it is repaired.
#[track_caller]
fn assert_damaged<T: std::fmt::Debug>(answer: Result<T, Error>, what: &str) {
    let error = answer.expect_err(what);
    let error = error.as_db_error().expect(what);
    assert_eq!(error.code().code(), NOT_IN_PREREQUISITE_STATE, "{what}: {error:?}");
    assert!(error.message().contains("\"s\" is damaged"), "{what}: {error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("repair_stream")), "{what}: {error:?}");
}

/// The stream is repaired, which finds something, and works.
#[track_caller]
fn assert_repaired(client: &mut Client, what: &str) {
    let status = "SELECT count(*) FROM sequin.consumer_stats
                  WHERE consumer = 'c' AND status = 'damaged' AND last_error LIKE '%damaged%'";
    assert_eq!(client.number(status), 1, "{what}");
    assert!(client.number("SELECT count(*) FROM sequin.repair_stream('s')") > 0, "{what}");
    let seq = client.publish("s", "a", "1");
    let got = client.receive("c", 10, seconds(10));
    assert!(seqs(&got).contains(&seq), "{what}: {got:?}");
    assert_eq!(client.ack("c", &ack_ids(&got)), got.len() as i32);
    let status = "SELECT count(*) FROM sequin.consumer_stats
                  WHERE consumer = 'c' AND status = 'active' AND last_error IS NULL";
    assert_eq!(client.number(status), 1, "{what}");
}

fn a_receiver_is_told_at_once_of_what_an_owner_has_done_to_its_stream() {
    let database = database("damaged_ddl");
    let mut client = database.connect();
    prepare(&mut client);
    for command in [
        "ALTER SEQUENCE sequin_stream.s_seq_seq CACHE 10",
        "ALTER SEQUENCE sequin_stream.s_seq_seq INCREMENT -1",
        "ALTER SEQUENCE sequin_stream.s_seq_seq CYCLE",
        "ALTER TABLE sequin_stream.s ALTER seq SET CACHE 10",
        "ALTER TABLE sequin_stream.s DISABLE TRIGGER on_publish",
        "ALTER TABLE sequin_stream.s DISABLE TRIGGER ALL",
        "ALTER TABLE sequin_stream.s ENABLE TRIGGER on_publish",
        "DROP TRIGGER on_publish ON sequin_stream.s",
        "ALTER TABLE sequin_stream.s DROP CONSTRAINT s_pkey",
        "ALTER TABLE sequin_stream.s ALTER seq DROP IDENTITY",
    ] {
        let (answer, took) = answer_to_waiter(&database, || client.batch_execute(command).unwrap());
        assert_damaged(answer, command);
        assert!(took < AT_ONCE, "{command}: told after {took:?}");
        assert_damaged(client.try_receive("c", 1, millis(0)), command);
        assert_repaired(&mut client, command);
    }
}

/// Nobody hears of it, but who looks sees it, whether or not its dispatcher has seen the stream before.
fn a_receiver_is_told_of_a_sequence_that_was_set_back() {
    let database = database("damaged_setval");
    let mut client = database.connect();
    prepare(&mut client);
    for restarts in [false, true] {
        let saved = "SELECT count(*) FROM sequin.acks";
        wait_until("all is in checkpoints", seconds(30), || client.number(saved) == 0);
        let back = "DELETE FROM sequin_stream.s; SELECT setval('sequin_stream.s_seq_seq', 1)";
        client.batch_execute(back).unwrap();
        if restarts {
            client.restart_dispatcher();
        }
        assert_damaged(client.try_receive("c", 1, millis(10)), "setval");
        client.publish("s", "a", "1");
        assert_damaged(client.try_receive("c", 1, millis(10)), "setval");
        assert_repaired(&mut client, "setval");
    }
}

fn a_sequence_that_was_set_forward_is_no_damage() {
    let database = database("damaged_forward");
    let mut client = database.connect();
    prepare(&mut client);
    client.batch_execute("SELECT setval('sequin_stream.s_seq_seq', 100)").unwrap();
    assert!(client.receive("c", 1, millis(10)).is_empty());
    assert_eq!(client.publish("s", "a", "1"), 101);
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [101]);
}

fn a_renamed_trigger_is_no_damage() {
    let database = database("damaged_renamed");
    let mut client = database.connect();
    prepare(&mut client);
    client.batch_execute("ALTER TRIGGER on_publish ON sequin_stream.s RENAME TO other").unwrap();
    let seq = client.publish("s", "a", "1");
    let inserted =
        client.number("INSERT INTO sequin_stream.s (key, data) VALUES ('b', '1') RETURNING seq");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq, inserted]);
}

fn a_sequence_of_a_stream_is_not_restarted() {
    let database = database("damaged_restart");
    let mut client = database.connect();
    prepare(&mut client);
    client.batch_execute("CREATE TABLE other (id int GENERATED ALWAYS AS IDENTITY)").unwrap();
    for command in [
        "TRUNCATE sequin_stream.s RESTART IDENTITY",
        "TRUNCATE other, sequin_stream.s RESTART IDENTITY",
        "ALTER SEQUENCE sequin_stream.s_seq_seq RESTART",
        "ALTER SEQUENCE sequin_stream.s_seq_seq RESTART WITH 2",
        "ALTER TABLE sequin_stream.s ALTER seq RESTART",
        "SET search_path = sequin_stream; TRUNCATE s RESTART IDENTITY",
    ] {
        assert_eq!(sqlstate(client.batch_execute(command)), NOT_SUPPORTED, "{command}");
    }
    client.batch_execute("RESET search_path; TRUNCATE other RESTART IDENTITY").unwrap();
    client.publish("s", "a", "1");
    client.batch_execute("TRUNCATE sequin_stream.s").unwrap();
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
}

fn a_copy_without_its_messages_and_sequences_says_so_and_is_repaired() {
    let database = database("damaged_dumped");
    let mut client = database.connect();
    prepare(&mut client);
    // Begins after all there is, and has done nothing.
    client.create_consumer("s", "fresh", "new_only => true");
    let saved = "SELECT count(*) FROM sequin.acks";
    wait_until("all is in checkpoints", seconds(30), || client.number(saved) == 0);
    let copy = database.cluster.database_without_extension("damaged_copy");
    copy_by_dump(&database, &copy, &["--exclude-table-data=sequin_stream.*"]);
    let mut client = copy.connect();
    let early = client.publish("s", "a", "1");
    for consumer in ["c", "fresh"] {
        assert_damaged(client.try_receive(consumer, 1, millis(10)), consumer);
    }
    assert_repaired(&mut client, "a copy");
    assert_eq!(client.receive("fresh", 10, seconds(10)).len(), 1);
    // What came before counts as delivered, and can be had.
    let again = "SELECT sequin.redeliver('c', $1)";
    assert_eq!(client.query_one(again, &[&vec![early]]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [early]);
}

fn what_lost_a_column_says_so() {
    let database = database("damaged_column");
    let mut client = database.connect();
    prepare(&mut client);
    let drop = "ALTER TABLE sequin_stream.s DROP COLUMN headers";
    let (answer, took) = answer_to_waiter(&database, || client.batch_execute(drop).unwrap());
    assert_damaged(answer, drop);
    assert!(took < AT_ONCE, "told after {took:?}");
    let repair = client.query("SELECT sequin.repair_stream('s')", &[]);
    let error = repair.expect_err("what a column had is gone");
    assert_eq!(error.code().unwrap().code(), WRONG_OBJECT_TYPE);
}

fn a_stream_that_is_fine_is_repaired_without_a_word() {
    let database = database("damaged_not");
    let mut client = database.connect();
    prepare(&mut client);
    let seq = client.publish("s", "a", "1");
    let got = client.receive("c", 10, seconds(10));
    assert_eq!(client.number("SELECT count(*) FROM sequin.repair_stream('s')"), 0);
    assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    let next = client.publish("s", "a", "1");
    assert_eq!((seqs(&got), seqs(&client.receive("c", 10, seconds(10)))), (vec![seq], vec![next]));
}

fn a_dump_of_schemas_only_restores_streams_that_work() {
    let database = database("damaged_schemas");
    prepare(&mut database.connect());
    let copy = database.cluster.database_without_extension("damaged_schemas_copy");
    copy_by_dump(&database, &copy, &["--schema-only"]);
    let mut client = copy.connect();
    let seq = client.publish("s", "a", "1");
    let create = client.batch_execute("SELECT sequin.create_stream('s')");
    assert_eq!(sqlstate(create), DUPLICATE_OBJECT);
    client.create_consumer("s", "c", "");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
    assert_eq!(client.number("SELECT count(*) FROM sequin.stream_stats WHERE stream = 's'"), 1);
    client.batch_execute("SELECT sequin.drop_stream('s', force => true)").unwrap();
}

fn a_dump_of_schemas_only_takes_the_data_later() {
    let database = database("damaged_later");
    let mut client = database.connect();
    prepare(&mut client);
    let seq = client.publish("s", "a", "1");
    let copy = database.cluster.database_without_extension("damaged_later_copy");
    copy_by_dump(&database, &copy, &["--schema-only"]);
    copy_by_dump(&database, &copy, &["--data-only"]);
    let mut client = copy.connect();
    let next = client.publish("s", "b", "1");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq, next]);
}

fn an_unlogged_stream_works_until_a_crash_that_is_told_of() {
    let cluster = Cluster::start();
    let database = cluster.database("damaged_unlogged");
    let mut client = database.connect();
    prepare(&mut client);
    client.batch_execute("ALTER TABLE sequin_stream.s SET UNLOGGED").unwrap();
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [seq]);
    client.publish("s", "b", "1");
    cluster.kill_9();
    cluster.boot();
    let mut client = database.connect();
    assert_damaged(client.try_receive("c", 1, millis(10)), "a crash");
    assert_repaired(&mut client, "a crash");
}

/// A copy of the messages alone, into a stream whose sequence knows nothing of them.
fn messages_beyond_the_sequence_are_told_of_and_delivered_after_a_repair() {
    let database = database("damaged_beyond");
    let mut client = database.connect();
    client.create("s", "c", "");
    let rows = "1\tk.1\t1\n2\tk.2\t1\n3\tk.3\t1\n";
    let copy = || {
        let mut client = database.connect();
        let mut writer =
            client.copy_in("COPY sequin_stream.s (seq, key, data) FROM STDIN").unwrap();
        std::io::Write::write_all(&mut writer, rows.as_bytes()).unwrap();
        writer.finish().unwrap();
    };
    let (answer, took) = answer_to_waiter(&database, copy);
    assert_damaged(answer, "to one who waits");
    assert!(took < AT_ONCE, "told after {took:?}");
    client.restart_dispatcher();
    assert_damaged(
        client.try_receive("c", 1, millis(0)),
        "to one who asks a dispatcher that is new",
    );
    assert_repaired(&mut client, "with seqs of a COPY");
    let delivered = "SELECT ack_floor FROM sequin.consumer_stats WHERE consumer = 'c'";
    assert_eq!(
        client.number(delivered),
        4,
        "three messages that were copied, and one that was published"
    );
}

/// Who may INSERT can choose it. Others go on to receive what there is.
fn a_message_at_the_end_of_all_seqs_is_in_nobodys_way_once_it_is_gone() {
    let database = database("damaged_end");
    let mut client = database.connect();
    client.create("s", "c", "");
    let insert = format!(
        "INSERT INTO sequin_stream.s (seq, key, data) OVERRIDING SYSTEM VALUE VALUES ({}, 'a', '2')",
        i64::MAX
    );
    client.batch_execute(&insert).unwrap();
    let seq = client.publish("s", "a", "1");
    let got = client.receive("c", 10, seconds(10));
    assert_eq!(seqs(&got), [seq]);
    assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    assert_damaged(client.try_receive("c", 1, millis(0)), "when there is nothing else");
    let repaired = client.batch_execute("SELECT * FROM sequin.repair_stream('s')");
    assert_eq!(sqlstate(repaired), WRONG_OBJECT_TYPE);
    client.batch_execute(&format!("DELETE FROM sequin_stream.s WHERE seq = {}", i64::MAX)).unwrap();
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
}

const KEPT_OUT: &str = "09000";

fn what_a_trigger_or_a_rule_keeps_out_fails_its_publisher() {
    let database = database("damaged_kept_out");
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(
            "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE FUNCTION keep_some_out() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN IF new.key = ''out'' THEN RETURN NULL; END IF; RETURN new; END';
             CREATE FUNCTION set_back() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN new.seq := new.seq - 1000; RETURN new; END'",
        )
        .unwrap();
    let row = "TRIGGER t BEFORE INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION";
    for (what, drop) in [
        ("RULE r AS ON INSERT TO sequin_stream.s DO INSTEAD NOTHING".into(), "RULE r"),
        (format!("{row} keep_out()"), "TRIGGER t"),
        (format!("{row} keep_some_out()"), "TRIGGER t"),
        (format!("{row} set_back()"), "TRIGGER t"),
    ] {
        client.batch_execute(&format!("CREATE {what}")).unwrap();
        assert_eq!(sqlstate(client.try_publish("s", "out", "1")), KEPT_OUT, "{what}");
        let many = "SELECT sequin.publish_many('s', '{a,out}', '{1,2}'::text[]::jsonb[])";
        assert_eq!(sqlstate(client.query(many, &[])), KEPT_OUT, "{what}");
        client.batch_execute(&format!("DROP {drop} ON sequin_stream.s")).unwrap();
        assert_eq!(client.number("SELECT count(*) FROM sequin_stream.s"), 0, "{what}");
        let seq = client.publish("s", "a", "1");
        let got = client.receive("c", 10, seconds(10));
        assert_eq!(seqs(&got), [seq], "after {what}");
        assert_eq!(client.ack("c", &ack_ids(&got)), 1);
        client.batch_execute("DELETE FROM sequin_stream.s").unwrap();
    }
}

fn a_change_that_a_rule_keeps_out_is_told_of_by_its_source() {
    let database = database_of(logical_cluster(), "damaged_source");
    let mut client = database.connect();
    client.create("s", "c", "");
    for command in [
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT sequin.create_source('src', 's', '{t}', backfill => false)",
        "CREATE RULE r AS ON INSERT TO sequin_stream.s DO INSTEAD NOTHING",
        "INSERT INTO t VALUES (1)",
    ] {
        client.batch_execute(command).unwrap();
    }
    let told = "SELECT count(*) FROM sequin.source_stats WHERE last_error LIKE '%not inserted%'";
    wait_until("the source says so", seconds(60), || client.number(told) == 1);
    client.batch_execute("DROP RULE r ON sequin_stream.s").unwrap();
    let got = client.receive("c", 10, seconds(60));
    assert_eq!(got.iter().map(|message| &*message.key).collect::<Vec<_>>(), ["public.t.1"]);
}

/// While its transaction is open, others publish and are received: it isn't passed over.
fn a_message_that_gets_a_new_seq_is_published_by_that() {
    let database = database("damaged_update");
    let mut client = database.connect();
    client.create("s", "c", "");
    let old = client.publish("s", "a", "1");
    let got = client.receive("c", 1, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&got)), 1);
    let mut other = database.connect();
    let mut transaction = other.transaction().unwrap();
    let update = "UPDATE sequin_stream.s SET seq = DEFAULT WHERE seq = $1";
    assert_eq!(transaction.execute(update, &[&old]).unwrap(), 1);
    let later = client.publish("s", "b", "1");
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [later]);
    transaction.commit().unwrap();
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [later - 1]);
}

fn a_stream_has_no_relatives() {
    let database = database("damaged_relatives");
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(
            "CREATE TABLE child (LIKE sequin_stream.s);
             CREATE TABLE parent (LIKE sequin_stream.s) PARTITION BY RANGE (seq)",
        )
        .unwrap();
    for command in [
        "CREATE TABLE heir () INHERITS (sequin_stream.s)",
        "SET search_path = sequin_stream; CREATE TABLE public.heir (more int) INHERITS (s)",
        "ALTER TABLE child INHERIT sequin_stream.s",
        "ALTER TABLE parent ATTACH PARTITION sequin_stream.s DEFAULT",
        "ALTER TABLE parent ATTACH PARTITION sequin_stream.s FOR VALUES FROM (1) TO (10)",
    ] {
        assert_eq!(sqlstate(client.batch_execute(command)), NOT_SUPPORTED, "{command}");
    }
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 10, seconds(10))), [seq]);
}
