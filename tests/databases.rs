//! Databases come and go while the extension works in them.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Trial;
use postgres::{Client, NoTls};

use crate::calls::{Calls, ack_ids, millis, seconds, seqs, sqlstate};
use crate::harness::{LOGICAL_DECODING, database, shared_cluster, trials};
use sequin_testkit::cluster::{Cluster, Database, wait_until};
use sequin_testkit::process::succeed;

pub fn tests() -> Vec<Trial> {
    trials![
        two_databases_at_once,
        receive_works_right_after_create_extension,
        a_database_in_use_can_be_renamed_copied_and_dropped,
        extension_can_be_dropped_and_created_again,
        a_waiting_receiver_does_not_block_other_databases,
        idle_workers_hold_nothing,
        workers_follow_the_extension,
        a_launcher_that_is_terminated_comes_back,
        a_database_that_accepts_no_connections_is_served_as_soon_as_it_does,
        without_preload_the_error_says_what_to_do,
        a_database_that_is_not_in_utf8_is_refused,
        dump_and_restore_keep_messages_and_acks,
        a_dispatcher_that_starts_during_a_restore_leaves_it_alone,
        what_a_dropped_consumer_leaves_is_deleted,
        databases_without_the_extension_take_no_room,
        a_place_that_is_taken_for_a_moment_is_waited_for,
        workers_work_whatever_a_database_sets,
    ]
}

/// A command that something blocks would hang for ever; this is a generous bound for one that nothing blocks.
const NOT_BLOCKED: Duration = seconds(20);

fn two_databases_at_once() {
    let databases = [database("both_one"), database("both_two")];
    let mut clients = databases.each_ref().map(|database| database.connect());
    for (n, client) in clients.iter_mut().enumerate() {
        client.create("s", "c", "");
        for _ in 0..=n {
            client.publish("s", "a", &n.to_string());
        }
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let got = client.drain("c", millis(300));
        assert_eq!(got.len(), n + 1);
        assert!(got.iter().all(|delivery| delivery.data == n.to_string()), "{got:?}");
    }
}

fn receive_works_right_after_create_extension() {
    for n in 0..5 {
        let database = shared_cluster().database_without_extension(&format!("right_after_{n}"));
        let mut client = database.connect();
        client.batch_execute("CREATE EXTENSION sequin").unwrap();
        client.create("s", "c", "");
        let seq = client.publish("s", "a", "1");
        // The workers may be starting: to wait is their matter.
        assert_eq!(seqs(&client.receive("c", 1, seconds(20))), [seq]);
    }
    // And when all of it is one transaction, it is as if nothing had been, until the commit.
    let database = shared_cluster().database_without_extension("right_after_commit");
    let mut client = database.connect();
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("CREATE EXTENSION sequin").unwrap();
    transaction.create("s", "c", "");
    let seq = transaction.publish("s", "a", "1");
    transaction.commit().unwrap();
    assert_eq!(seqs(&client.receive("c", 1, seconds(20))), [seq]);
}

/// Some work done, so that the workers are connected and have something to do.
fn use_it(client: &mut Client) {
    client.create("s", "c", "");
    client.publish_numbers("s", 10, 10);
    let held = client.receive("c", 5, seconds(20));
    client.ack("c", &ack_ids(&held[..1]));
}

fn a_database_in_use_can_be_renamed_copied_and_dropped() {
    let database = database("in_use");
    use_it(&mut database.connect());
    let mut admin = shared_cluster().connect("postgres");
    admin.batch_execute(&format!("SET statement_timeout = {}", NOT_BLOCKED.as_millis())).unwrap();
    // The connection above is closed, but its backend may take a moment to go.
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = 'in_use' AND backend_type = 'client backend'";
    wait_until("the client is gone", seconds(30), || admin.number(others) == 0);
    admin.batch_execute("CREATE DATABASE in_use_copy TEMPLATE in_use").unwrap();
    admin.batch_execute("ALTER DATABASE in_use RENAME TO in_use_renamed").unwrap();
    for name in ["in_use_copy", "in_use_renamed"] {
        let mut client = shared_cluster().connect(name);
        wait_until("the rest comes, in both", seconds(60), || {
            let held = client.receive("c", 100, seconds(1));
            client.ack("c", &ack_ids(&held));
            client.acked_total() >= 5
        });
        drop(client);
        wait_until("the client is gone", seconds(30), || {
            admin.number(&others.replace("in_use", name)) == 0
        });
        admin.batch_execute(&format!("DROP DATABASE {name}")).unwrap();
    }
}

fn extension_can_be_dropped_and_created_again() {
    let database = database("drop_extension");
    let mut client = database.connect();
    client.batch_execute(&format!("SET statement_timeout = {}", NOT_BLOCKED.as_millis())).unwrap();
    for _ in 0..3 {
        use_it(&mut client);
        client.batch_execute("DROP EXTENSION sequin CASCADE").unwrap();
        // The streams' tables are the user's, not the extension's.
        client.batch_execute("DROP SCHEMA IF EXISTS sequin_stream CASCADE").unwrap();
        client.batch_execute("CREATE EXTENSION sequin").unwrap();
    }
    // Undone, it goes on as before.
    use_it(&mut client);
    client.batch_execute("BEGIN; DROP EXTENSION sequin CASCADE; ROLLBACK").unwrap();
    let seq = client.publish("s", "after.rollback", "1");
    wait_until("it delivers after the rollback", seconds(30), || {
        seqs(&client.receive("c", 100, seconds(1))).contains(&seq)
    });
}

fn a_waiting_receiver_does_not_block_other_databases() {
    let database = database("waits_here");
    let mut client = database.connect();
    client.create("s", "c", "");
    let mut waiter = database.connect();
    let mut admin = shared_cluster().connect("postgres");
    admin.batch_execute(&format!("SET statement_timeout = {}", NOT_BLOCKED.as_millis())).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || waiter.receive("c", 1, seconds(120)));
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'waits_here'
                     AND state = 'active' AND query LIKE '%sequin.receive%'";
        wait_until("the receiver waits", seconds(30), || admin.number(query) == 1);
        // Dropping a database makes every process of the cluster answer a barrier.
        admin.batch_execute("CREATE DATABASE elsewhere TEMPLATE template0").unwrap();
        admin.batch_execute("DROP DATABASE elsewhere").unwrap();
        client.publish("s", "a", "1");
        assert_eq!(waiting.join().unwrap().len(), 1);
    });
}

fn idle_workers_hold_nothing() {
    let database = database("idle");
    let mut client = database.connect();
    use_it(&mut client);
    let busy = "SELECT count(*) FROM pg_stat_activity a JOIN sequin.workers w USING (pid)
                WHERE a.backend_xmin IS NOT NULL OR a.xact_start IS NOT NULL
                   OR a.state IS DISTINCT FROM 'idle' AND w.process = 'dispatcher'
                   OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted
                              AND l.locktype <> 'virtualxid')";
    wait_until("no worker holds a snapshot, a transaction or a lock", seconds(30), || {
        client.number(busy) == 0
    });
}

fn workers_follow_the_extension() {
    let database = database("workers_follow");
    let mut admin = shared_cluster().connect("postgres");
    let backends = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = 'workers_follow' AND backend_type LIKE '%sequin%'";
    let mut client = database.connect();
    use_it(&mut client);
    wait_until("workers started", seconds(30), || admin.number(backends) > 0);
    let processes = "SELECT count(*) FROM sequin.workers
                     WHERE process = 'dispatcher' AND database = current_database()";
    wait_until("the view shows the dispatcher", seconds(30), || client.number(processes) == 1);
    client.batch_execute("DROP EXTENSION sequin CASCADE").unwrap();
    wait_until("workers stopped", seconds(30), || admin.number(backends) == 0);
}

fn a_launcher_that_is_terminated_comes_back() {
    let cluster = Cluster::start();
    let database = cluster.database("launcher_ends");
    let mut client = database.connect();
    use_it(&mut client);
    let find = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity
                WHERE backend_type = 'sequin launcher'";
    let first = client.number(find);
    client.terminate(first as i32);
    wait_until("another launcher works", seconds(30), || {
        ![0, first].contains(&client.number(find))
    });
    client.restart_dispatcher();
    let seq = client.publish("s", "after", "1");
    wait_until("it delivers", seconds(30), || {
        seqs(&client.receive("c", 100, seconds(1))).contains(&seq)
    });
}

/// A dispatcher would be started again and again, in vain, and later and later.
fn a_database_that_accepts_no_connections_is_served_as_soon_as_it_does() {
    let database = database("closed");
    let (mut client, mut admin) = (database.connect(), shared_cluster().connect("postgres"));
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    let pid = client.number(
        "SELECT pid::bigint FROM sequin.workers
         WHERE process = 'dispatcher' AND database = current_database()",
    );
    admin.batch_execute("ALTER DATABASE closed ALLOW_CONNECTIONS false").unwrap();
    admin.terminate(i32::try_from(pid).unwrap());
    let is_left_alone = "SELECT count(*) FROM sequin.workers
                         WHERE process = 'dispatcher' AND database = current_database()
                           AND pid IS NULL AND last_error LIKE '%accepts no connections%'";
    wait_until("it is left alone", seconds(30), || client.number(is_left_alone) == 1);
    admin.batch_execute("ALTER DATABASE closed ALLOW_CONNECTIONS true").unwrap();
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [seq]);
    let log = std::fs::read_to_string(shared_cluster().log()).unwrap();
    let refused = "database \"closed\" is not currently accepting connections";
    assert!(!log.contains(refused), "it was tried all the same");
}

fn without_preload_the_error_says_what_to_do() {
    let cluster = Cluster::start_with("shared_preload_libraries = ''");
    let mut client = cluster.connect("postgres");
    let error = client.batch_execute("CREATE EXTENSION sequin").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "55000", "{error:?}");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("shared_preload_libraries"), "{error:?}");
    // Nothing is left of it, and the server goes on.
    assert_eq!(client.number("SELECT count(*) FROM pg_extension WHERE extname = 'sequin'"), 0);
}

fn dump_and_restore_keep_messages_and_acks() {
    let (from, into) =
        (database("dump_from"), shared_cluster().database_without_extension("dump_into"));
    let mut client = from.connect();
    client.create("s", "c", "ack_wait => '1 s', filters => '{k.*}'");
    client.create_consumer("s", "untouched", "max_deliver => 3");
    client.publish_numbers("s", 50, 50);
    let acked = client.receive("c", 20, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&acked)), 20);
    let in_flight = client.receive("c", 10, seconds(10));
    assert_eq!(in_flight.len(), 10);

    let mut dump = shared_cluster().client_program("pg_dump");
    let mut dump = dump.args(["--dbname", &from.name]).stdout(Stdio::piped()).spawn().unwrap();
    let mut restore = shared_cluster().client_program("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &into.name]);
    succeed(restore.stdin(dump.stdout.take().unwrap()));
    assert!(dump.wait().unwrap().success());

    let mut client = into.connect();
    let rest = client.drain("c", seconds(2));
    let mut rest = seqs(&rest);
    rest.sort_unstable();
    let all: Vec<i64> = client
        .query("SELECT seq FROM sequin_stream.s ORDER BY seq", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(all.len(), 50);
    let acked = seqs(&acked);
    let expected: Vec<i64> = all.iter().copied().filter(|seq| !acked.contains(seq)).collect();
    assert_eq!(rest, expected);
    assert_eq!(seqs(&client.drain("untouched", millis(500))), all);
    // The restored stream goes on where the old one ended.
    let seq = client.publish("s", "k.next", "51");
    assert!(seq > all[49]);
    assert_eq!(seqs(&client.receive("c", 1, seconds(10))), [seq]);
    let max_deliver = "SELECT max_deliver::bigint FROM sequin.consumers WHERE name = 'untouched'";
    assert_eq!(client.number(max_deliver), 3);
}

fn a_dispatcher_that_starts_during_a_restore_leaves_it_alone() {
    let (from, into) =
        (database("half_from"), shared_cluster().database_without_extension("half_into"));
    let mut client = from.connect();
    client.create("s", "c", "");
    client.publish_numbers("s", 30, 30);
    let acked = client.receive("c", 20, seconds(10));
    assert_eq!(client.ack("c", &ack_ids(&acked)), 20);

    let mut dump = shared_cluster().client_program("pg_dump");
    let dump = succeed(dump.args(["--dbname", &from.name]));
    let dump = String::from_utf8(dump.stdout).unwrap();
    // psql's guard against foreign scripts spans the whole.
    let lines = dump.lines().filter(|line| !line.contains("restrict "));
    let dump: String = lines.flat_map(|line| [line, "\n"]).collect();
    // The journals come before the consumers that they are about.
    let (before, after) = dump.split_at(dump.find("COPY sequin.consumers ").unwrap());
    assert!(before.contains("COPY sequin.acks ") && before.contains("COPY sequin.checkpoints "));
    restore(&into.name, before);
    let mut client = into.connect();
    client.restart_dispatcher();
    restore(&into.name, after);

    let rest = client.drain("c", millis(500));
    assert_eq!(rest.len(), 10, "acked messages came back: {:?}", seqs(&rest));
}

/// Runs a part of a dump, each statement in a transaction of its own, as psql does.
fn restore(database: &str, script: &str) {
    let mut psql = shared_cluster().client_program("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", database]);
    let mut child = psql.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn what_a_dropped_consumer_leaves_is_deleted() {
    let database = database("leaves_nothing");
    let mut client = database.connect();
    client.create("s", "c", "");
    client.publish_numbers("s", 10, 10);
    let got = client.receive("c", 5, seconds(10));
    client.ack("c", &ack_ids(&got));
    client.batch_execute("SELECT sequin.drop_consumer('c')").unwrap();
    let rows = "SELECT (SELECT count(*) FROM sequin.acks) + (SELECT count(*) FROM sequin.outbox)
                     + (SELECT count(*) FROM sequin.checkpoints)";
    wait_until("nothing is left of the consumer", seconds(30), || client.number(rows) == 0);

    // The same when nobody was there to see it dropped.
    client.batch_execute(
        "INSERT INTO sequin.outbox (consumer_id, id, generation, kind, seqs) VALUES (7, 1, 1, 'd', '{1}');
         INSERT INTO sequin.acks (consumer_id, id, generation, kind, seqs) VALUES (7, 0, 0, 'g', '{}')",
    )
    .unwrap();
    client.restart_dispatcher();
    wait_until("nor of one dropped earlier", seconds(30), || client.number(rows) == 0);
}

fn databases_without_the_extension_take_no_room() {
    let cluster = Cluster::start_with("sequin.max_databases = 2");
    let others: Vec<_> =
        (0..5).map(|n| cluster.database_without_extension(&format!("other_{n}"))).collect();
    // The launcher asks all of them whether they have it.
    cluster.restart();
    let mut used: Vec<Client> = others[3..].iter().map(|database| database.connect()).collect();
    for client in &mut used {
        client.batch_execute("CREATE EXTENSION sequin").unwrap();
        client.create("s", "c", "");
        let seq = client.publish("s", "a", "1");
        assert_eq!(seqs(&client.receive("c", 1, seconds(60))), [seq]);
    }
    let mut third = others[0].connect();
    assert_eq!(sqlstate(third.execute("CREATE EXTENSION sequin", &[])), "53400");
    // A place is free again for whoever comes next.
    used[0]
        .batch_execute("SELECT sequin.drop_stream('s', force => true); DROP EXTENSION sequin")
        .unwrap();
    wait_until("there is room for another", seconds(60), || {
        third.batch_execute("CREATE EXTENSION sequin").is_ok()
    });
    third.create("s", "c", "");
    let seq = third.publish("s", "a", "1");
    assert_eq!(seqs(&third.receive("c", 1, seconds(60))), [seq]);
}

/// When the server starts, the only place goes from one database to the next, to find out whether they have the extension:
/// a second each here, as every process takes that to connect.
fn a_place_that_is_taken_for_a_moment_is_waited_for() {
    let cluster = Cluster::start_with("sequin.max_databases = 1\npost_auth_delay = 1");
    let others: Vec<_> =
        (0..4).map(|n| cluster.database_without_extension(&format!("other_{n}"))).collect();
    cluster.restart();
    let mut client = others[3].connect();
    client.batch_execute("CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    assert_eq!(seqs(&client.receive("c", 1, seconds(60))), [seq]);
}

/// One of each kind of what ALTER DATABASE could break a worker with.
fn workers_work_whatever_a_database_sets() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let database = cluster.database_without_extension("odd");
    let mut client = database.connect();
    client
        .batch_execute(
            "CREATE ROLE nobody;
             CREATE SCHEMA fake;
             CREATE FUNCTION fake.count(bigint) RETURNS bigint LANGUAGE sql RETURN 1 / 0",
        )
        .unwrap();
    let mut settings = vec![
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "idle_session_timeout = '1ms'",
        "search_path = fake, pg_catalog",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "row_security = on",
        "session_replication_role = replica",
        "default_tablespace = 'nowhere'",
        "temp_tablespaces = 'nowhere'",
        "default_table_access_method = 'nothing'",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "work_mem = '64kB'",
        "jit = on",
        "jit_above_cost = 0",
        "enable_indexscan = off",
        "check_function_bodies = off",
        "standard_conforming_strings = off",
        "client_min_messages = error",
        "debug_parallel_query = on",
    ];
    // Names that this version knows, with values that it accepts.
    let version = client.number("SELECT current_setting('server_version_num')::bigint");
    if version >= 170_000 {
        settings.push("transaction_timeout = '1ms'");
    }
    settings.retain(|setting| {
        client.batch_execute(&format!("ALTER DATABASE odd SET {setting}")).is_ok()
    });
    assert!(settings.len() > 18, "{settings:?}");
    // What the test itself needs goes before what the database sets.
    let own = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 -c search_path=public
        -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off
        -c session_replication_role=origin -c default_tablespace= -c default_transaction_deferrable=off
        -c standard_conforming_strings=on -c default_transaction_isolation=read\\ committed
        -c default_table_access_method=heap";
    let own = match version >= 170_000 {
        true => format!("{own} -c transaction_timeout=0"),
        false => own.into(),
    };
    let mut client = cluster.config("odd").options(&own).connect(NoTls).unwrap();
    client.batch_execute("CREATE EXTENSION sequin").unwrap();
    client.create("s", "c", "max_deliver => 1");
    client.publish_numbers("s", 50, 50);
    let held = client.receive("c", 40, seconds(20));
    assert_eq!(held.len(), 40);
    assert_eq!(client.ack("c", &ack_ids(&held[..30])), 30);
    assert_eq!(client.nack("c", &ack_ids(&held[30..])), 10);
    // The dispatcher's own statements: dead letters, journal, checkpoint, a restart.
    wait_until("the dead letters are there", seconds(30), || {
        client.number("SELECT dead_total FROM sequin.consumer_stats") == 10
            && client.number("SELECT count(*) FROM sequin.dead_letters") == 10
    });
    client.restart_dispatcher();
    assert_eq!(client.drain("c", millis(300)).len(), 10);
    // The capturer's.
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, f float8, b bytea, d date);
             INSERT INTO t VALUES (1, 0.1, '\\x00', '2020-01-31')",
        )
        .unwrap();
    client.execute("SELECT sequin.create_stream('changes')", &[]).unwrap();
    client.execute("SELECT sequin.create_source('t', 'changes', tables => '{t}')", &[]).unwrap();
    client.create_consumer("changes", "d", "");
    client.batch_execute("INSERT INTO t VALUES (2, 0.1, '\\x00', '2020-01-31')").unwrap();
    let mut got = Vec::new();
    wait_until("both rows are there", seconds(30), || {
        got.extend(client.receive("d", 10, millis(500)));
        got.len() == 2
    });
    for delivery in got {
        assert!(
            delivery.data.contains("\"f\": 0.1") && delivery.data.contains("2020-01-31"),
            "{}",
            delivery.data
        );
    }
}

fn a_database_that_is_not_in_utf8_is_refused() {
    let cluster = shared_cluster();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = format!("in_{}", encoding.to_lowercase());
        let create =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        cluster.connect("postgres").batch_execute(&create).unwrap();
        let database = Database { cluster, name };
        let mut client = database.connect();
        let error = client.batch_execute("CREATE EXTENSION sequin").expect_err(encoding);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "0A000", "{error:?}");
        assert!(error.hint().unwrap_or_default().contains("ENCODING 'UTF8'"), "{error:?}");
        assert_eq!(
            client.number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'sequin%'"),
            0
        );
    }
}
