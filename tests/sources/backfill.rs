//! Rows that are there already are read in chunks while writes go on.

use std::collections::HashSet;
use std::thread;

use libtest_mimic::Trial;
use postgres::Client;

use super::fixture::{DEADLINE, Fixture, Sources};
use super::replay::{assert_identical, replay};
use crate::calls::{Calls, millis, sqlstate};
use crate::harness::{LOGICAL_DECODING, trials};
use crate::others::{Done, while_others};
use sequin_testkit::cluster::{Cluster, Database, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        a_backfill_goes_on_after_kill_9_under_updates,
        each_row_is_read_once,
        a_condition_reads_a_part,
        a_condition_that_fails_fails_the_job_only,
        a_backfill_can_be_cancelled,
        a_backfill_holds_no_lock_and_no_old_snapshot,
        keys_of_any_type_and_order_are_read,
        source_stats_show_the_progress,
        a_backfill_goes_on_behind_what_rewrites_the_table,
        a_backfill_goes_on_with_the_table_as_it_is_now,
        a_locked_table_holds_up_no_changes_of_others,
        a_backfill_that_cannot_go_on_says_why_and_what_to_do,
        a_backfill_of_a_table_that_is_dropped_or_left_out_is_cancelled,
    ]
}

const ROWS: i64 = 50_000;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int)";

const READS: &str = "SELECT count(*) FROM sequin_stream.s
                     WHERE data->>'action' = 'read' AND data->'metadata'->>'table' = 't'";

fn fill(fixture: &mut Fixture, rows: i64) {
    let insert = format!("INSERT INTO t SELECT n, 0 FROM generate_series(1, {rows}) n");
    fixture.client.batch_execute(&insert).unwrap();
}

fn a_backfill_goes_on_after_kill_9_under_updates() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let mut fixture = Fixture::on(&cluster, "resumed", TABLE);
    fill(&mut fixture, ROWS);
    let Fixture { client, database } = &mut fixture;
    let database = &*database;
    let write = |_: u64, done: &Done| {
        while !done.is_set() {
            if let Ok(mut writer) = database.cluster.try_connect(&database.name) {
                while !done.is_set() && write_something(&mut writer) {}
            }
        }
    };
    while_others(2, write, || {
        client.create_source("src", &["t"], "");
        for kill in 1..=3 {
            // Some chunks of it.
            wait_until("a part is read", DEADLINE, || client.number(READS) > kill * 2000);
            cluster.kill_9();
            cluster.boot();
            *client = database.connect();
            let job = "SELECT concat_ws(' ', status, rows_read > 0) FROM sequin.backfills
                       WHERE tbl = 't'::regclass";
            let job = client.text(job);
            assert!(["running t", "pending t", "done t"].contains(&job.as_str()), "{job}");
        }
        client.finish_backfills();
    });
    fixture.client.catch_up();
    let reads = fixture.client.number(READS);
    assert!(reads <= ROWS, "{reads} of {ROWS} rows read: it began anew");
    replay(&mut fixture.client, &["t"]);
    assert_identical(&mut fixture.client, &["t"]);
}

/// Inserts, updates or deletes a row; false if the connection is broken.
fn write_something(writer: &mut Client) -> bool {
    let id = || fastrand::i64(1..=ROWS + 1000);
    let statement = match fastrand::u8(0..3) {
        0 => format!("UPDATE t SET v = v + 1 WHERE id = {}", id()),
        1 => format!("DELETE FROM t WHERE id = {}", id()),
        _ => format!(
            "INSERT INTO t VALUES ({}, -1) ON CONFLICT (id) DO UPDATE SET id = {}",
            id(),
            -id()
        ),
    };
    // Keys may meet; the transaction is no failure then.
    writer.batch_execute(&statement).is_ok() || !writer.is_closed()
}

fn each_row_is_read_once() {
    let mut fixture = Fixture::new("read_once", TABLE);
    fill(&mut fixture, 10_000);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    assert_eq!(client.number(READS), 10_000);
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    let wrong = "SELECT count(*) FROM sequin_stream.s, LATERAL (SELECT data->'metadata' AS m) m
                 WHERE data->>'action' = 'read'
                   AND (data->'changes' <> 'null' OR m->'xid' <> 'null' OR m->>'commit_lsn' IS NULL
                        OR key <> 'public.' || (m->>'table') || '.' || (data->'record'->>'id'))";
    assert_eq!(client.number(wrong), 0);
    // Another one reads them again.
    client.execute("SELECT sequin.backfill('src', 't')", &[]).unwrap();
    client.finish_backfills();
    assert_eq!(client.number(READS), 20_000);
}

fn a_condition_reads_a_part() {
    let mut fixture = Fixture::new("conditions", TABLE);
    fill(&mut fixture, 5000);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    assert!(client.number("SELECT sequin.backfill('src', 't', 'id % 100 = 0 OR v > 0')") > 0);
    client.finish_backfills();
    assert_eq!(client.number(READS), 50);
    let others = "SELECT count(*) FROM sequin_stream.s
                  WHERE data->>'action' = 'read' AND (data->'record'->>'id')::int % 100 <> 0";
    assert_eq!(client.number(others), 0);
    let job = "SELECT concat_ws(' ', source, tbl::regclass, condition, status, rows_read, finished_at IS NOT NULL)
               FROM sequin.backfills";
    assert_eq!(client.texts(job), ["src t id % 100 = 0 OR v > 0 done 50 t"]);
}

fn a_condition_that_fails_fails_the_job_only() {
    let mut fixture = Fixture::new("bad_conditions", TABLE);
    fill(&mut fixture, 100);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    for condition in ["no_such_column > 1", "id", "true) OR (1", "1; DROP TABLE t", ""] {
        let backfill = "SELECT sequin.backfill('src', 't', $1)";
        let result = client.execute(backfill, &[&condition]);
        assert!(!sqlstate(result).is_empty(), "{condition}");
    }
    // This one only shows when it is run.
    client.execute("SELECT sequin.backfill('src', 't', '1 / (id - 50) > 0')", &[]).unwrap();
    let failed =
        "SELECT count(*) FROM sequin.backfills WHERE status = 'failed' AND error LIKE '%division%'";
    client.wait_for("the job fails", |client| client.number(failed) == 1);
    client.batch_execute("INSERT INTO t VALUES (-1, 0)").unwrap();
    let got = client.messages_after(0);
    assert_eq!(got.last().unwrap(), r#"insert t {"v": 0, "id": -1}"#);
}

fn a_backfill_can_be_cancelled() {
    let mut fixture = Fixture::new("cancelled", TABLE);
    fill(&mut fixture, ROWS);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    // Slow, so that there is time.
    let start = "SELECT sequin.backfill('src', 't', 'pg_sleep(0.001) IS NOT NULL')";
    let job = client.number(start);
    client.wait_for("it has begun", |client| client.number(READS) > 0);
    client.execute("SELECT sequin.cancel_backfill($1)", &[&job]).unwrap();
    client.catch_up();
    let status = format!("SELECT status FROM sequin.backfills WHERE id = {job}");
    assert_eq!(client.text(&status), "cancelled");
    let reads = client.number(READS);
    assert!(reads < ROWS, "it was not cancelled");
    client.catch_up();
    client.catch_up();
    assert_eq!(client.number(READS), reads, "it goes on");
    assert_eq!(sqlstate(client.execute("SELECT sequin.cancel_backfill(123456)", &[])), "42704");
}

fn a_backfill_holds_no_lock_and_no_old_snapshot() {
    let mut fixture = Fixture::new("no_lock", TABLE);
    fill(&mut fixture, ROWS);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.wait_for("it has begun", |client| client.number(READS) > 0);
    // Someone else can have the table, at some moment between two chunks.
    client.batch_execute("SET lock_timeout = '5 s'").unwrap();
    client.batch_execute("ALTER TABLE t ADD COLUMN w int").unwrap();
    let mut horizons = HashSet::new();
    while client.number("SELECT count(*) FROM sequin.backfills WHERE status <> 'done'") > 0 {
        horizons.insert(client.number(
            "SELECT coalesce(max(backend_xmin::text::bigint), 0) FROM pg_stat_activity
             WHERE backend_type = 'sequin capturer' AND datname = current_database()",
        ));
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS x (v int); INSERT INTO x VALUES (1)")
            .unwrap();
        thread::sleep(millis(1));
    }
    assert!(horizons.len() > 3, "its snapshot does not move on: {horizons:?}");
    client.finish_backfills();
    replay(client, &["t"]);
    // Rows read before have no member w.
    client
        .batch_execute("ALTER TABLE t DROP COLUMN w; ALTER TABLE replayed.t DROP COLUMN w")
        .unwrap();
    assert_identical(client, &["t"]);
}

fn keys_of_any_type_and_order_are_read() {
    let tables = "CREATE TABLE a (f float8 PRIMARY KEY);
        INSERT INTO a SELECT random() FROM generate_series(1, 3000);
        INSERT INTO a VALUES ('NaN'), ('Infinity'), ('-Infinity'), ('0');
        CREATE TABLE b (t text, n numeric, d timestamptz, PRIMARY KEY (t, n, d));
        INSERT INTO b SELECT chr(97 + n % 7) || '''\"', n % 11, '2024-01-01'::timestamptz + n * '1 s'::interval
        FROM generate_series(1, 3000) n;
        CREATE TABLE c (u uuid PRIMARY KEY);
        INSERT INTO c SELECT gen_random_uuid() FROM generate_series(1, 3000);
        DO $$ BEGIN
            CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        EXCEPTION WHEN feature_not_supported THEN -- a server that was built without ICU
            CREATE COLLATION ci FROM \"C\";
        END $$;
        CREATE TABLE d (t text COLLATE ci PRIMARY KEY);
        INSERT INTO d SELECT 'Aa' || n FROM generate_series(1, 3000) n;
        CREATE TYPE mood AS ENUM ('z', 'a', 'm');
        CREATE TABLE e (m mood, b bytea, PRIMARY KEY (m, b));
        INSERT INTO e SELECT (ARRAY['z', 'a', 'm'])[1 + n % 3]::mood, decode(md5(n::text), 'hex') FROM generate_series(1, 3000) n;
        CREATE TABLE f (id int, other int NOT NULL);
        CREATE UNIQUE INDEX f_desc ON f (other DESC);
        ALTER TABLE f REPLICA IDENTITY USING INDEX f_desc;
        INSERT INTO f SELECT n, -n FROM generate_series(1, 3000) n";
    let mut fixture = Fixture::new("keys_read", tables);
    let client = &mut fixture.client;
    let tables = ["a", "b", "c", "d", "e", "f"];
    client.create_source("src", &tables, "");
    client.finish_backfills();
    replay(client, &tables);
    assert_identical(client, &tables);
    let reads = READS.replace(" = 't'", " <> 'marker'");
    assert_eq!(client.number(&reads), 6 * 3000 + 4);
}

fn source_stats_show_the_progress() {
    let mut fixture = Fixture::new("progress", TABLE);
    fill(&mut fixture, 3000);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    assert_eq!(client.status("src").0, "streaming");
    let stats = "SELECT count(*) FROM sequin.source_stats
                 WHERE source = 'src' AND last_commit_lsn IS NOT NULL AND captured_total = 3001
                   AND last_commit_time > now() - '1 min'::interval";
    assert_eq!(client.number(stats), 1);
    client.wait_for("there is no lag", |client| {
        client.number("SELECT lag_bytes::bigint FROM sequin.source_stats") < 10_000
    });
    let slot = client.text("SELECT slot FROM sequin.source_stats");
    assert_eq!(client.slots(), [slot]);
}

/// Locked, then read: a snapshot from before a rewrite, or a TRUNCATE, sees no rows at all.
fn a_backfill_goes_on_behind_what_rewrites_the_table() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, a int, v int);
                  CREATE TABLE p (LIKE t, PRIMARY KEY (id)) PARTITION BY RANGE (id);
                  CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000000)";
    let mut fixture = Fixture::new("rewritten_in_backfill", tables);
    let mut other = fixture.database.connect();
    let client = &mut fixture.client;
    client.create_source("src", &["t", "p"], "backfill => false");
    for (table, rewrite) in [
        ("t", "ALTER TABLE t ALTER v TYPE text"),
        ("p", "ALTER TABLE p ALTER v TYPE text"),
        (
            "t",
            "CREATE TEMP TABLE all_of_t AS SELECT * FROM t;
             TRUNCATE t; INSERT INTO t SELECT * FROM all_of_t",
        ),
    ] {
        client.batch_execute(&format!("TRUNCATE {table}; {}", insert(table))).unwrap();
        client.catch_up();
        let mut job = Halted::start(&fixture.database, client, table);
        other.batch_execute(&format!("BEGIN; {rewrite}")).unwrap();
        // A capturer that waits for the lock, if it does, has its snapshot by now.
        thread::sleep(millis(300));
        other.batch_execute("COMMIT").unwrap();
        assert_eq!(job.status(client), "running");
        job.go_on();
        client.wait_for("it is done", |client| job.status(client) == "done");
        assert_eq!(job.rows_read(client), SOME_ROWS, "{rewrite}");
    }
    client.catch_up();
    replay(client, &["t", "p"]);
    assert_identical(client, &["t", "p"]);
}

/// What else is done to a table that is being read: the rest is read as the table is by then.
fn a_backfill_goes_on_with_the_table_as_it_is_now() {
    for (n, (statement, table, last)) in [
        ("ALTER TABLE t ADD w int DEFAULT 7", "t", r#"{"a": 1, "v": 0, "w": 7, "id": 3000}"#),
        ("ALTER TABLE t DROP COLUMN v", "t", r#"{"a": 1, "id": 3000}"#),
        ("ALTER TABLE t RENAME COLUMN v TO w", "t", r#"{"a": 1, "w": 0, "id": 3000}"#),
        ("ALTER TABLE t RENAME COLUMN id TO key", "t", r#"{"a": 1, "v": 0, "key": 3000}"#),
        ("ALTER TABLE t RENAME TO u", "u", LAST),
        ("ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t", "t", LAST),
        ("CREATE SCHEMA s2; ALTER TABLE t SET SCHEMA s2", "t", LAST),
        ("ALTER SCHEMA s1 RENAME TO s2", "t", LAST),
        // As texts, most of them are in front of those that have been read.
        ("ALTER TABLE t ALTER id TYPE text", "t", r#"{"a": 1, "v": 0, "id": "3000"}"#),
        ("ALTER TABLE t ALTER id TYPE int USING -id", "t", r#"{"a": 1, "v": 0, "id": -3000}"#),
        (
            "ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER a TYPE bigint USING 10000 - id, ADD PRIMARY KEY (a)",
            "t",
            r#"{"a": 7000, "v": 0, "id": 3000}"#,
        ),
        // Another one in its place is not that table.
        ("ALTER TABLE t RENAME TO old; CREATE TABLE t (id int PRIMARY KEY, a int)", "old", LAST),
    ]
    .into_iter()
    .enumerate()
    {
        let mut fixture = Fixture::new(&format!("altered_in_backfill_{n}"), &table_t());
        let client = &mut fixture.client;
        client.create_source("src", &["t"], "backfill => false");
        let mut job = Halted::start(&fixture.database, client, "t");
        client.batch_execute(statement).unwrap();
        assert_eq!(job.status(client), "running");
        job.go_on();
        client.wait_for(statement, |client| job.status(client) == "done");
        assert_eq!(client.wait_for_status("src", "streaming"), "");
        let found = format!(
            "SELECT count(*) FROM sequin_stream.s WHERE data->>'action' = 'read'
             AND data->'metadata'->>'table' = '{table}' AND data->'record' = '{last}'"
        );
        assert_eq!(client.number(&found), 1, "{statement}");
        let rows = "SELECT count(DISTINCT abs((coalesce(data->'record'->'id', data->'record'->'key')->>0)::int))
                    FROM sequin_stream.s WHERE data->>'action' = 'read' AND data->'record' ? 'a'";
        assert_eq!(client.number(rows), SOME_ROWS, "{statement}");
    }
}

fn a_backfill_that_cannot_go_on_says_why_and_what_to_do() {
    for (n, (statement, why)) in [
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "no primary key"),
        ("ALTER TABLE t DROP COLUMN a", "column \"a\" does not exist"),
        ("ALTER PUBLICATION sequin_src DROP TABLE t", "publication does not have the table"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut fixture = Fixture::new(&format!("stuck_backfill_{n}"), &table_t());
        let client = &mut fixture.client;
        client.create_source("src", &["t"], "backfill => false");
        let mut job = Halted::start(&fixture.database, client, "t");
        client.batch_execute(statement).unwrap();
        assert_eq!(job.status(client), "running");
        job.go_on();
        let error = client.wait_for_status("src", "failed");
        assert!(error.contains(why) && error.contains("sequin.backfill('src', 't'"), "{error}");
        client.catch_up();
        if n == 0 {
            // Another one makes up for it.
            client.batch_execute("ALTER TABLE t ADD PRIMARY KEY (id)").unwrap();
            client.batch_execute("SELECT sequin.backfill('src', 't')").unwrap();
            client.wait_for("it is read", |client| client.number(DONE) == 1);
        } else {
            let forget =
                format!("SELECT count(*) FROM sequin.cancel_backfill({}) c WHERE c", job.id);
            assert!(error.contains(&format!("sequin.cancel_backfill({})", job.id)), "{error}");
            assert_eq!(client.number(&forget), 1);
            assert_eq!(client.number(&forget), 0);
        }
        assert_eq!(client.wait_for_status("src", "streaming"), "");
    }
}

/// Of a table that is not to be captured any more there is nothing to be read, and nothing is wrong.
fn a_backfill_of_a_table_that_is_dropped_or_left_out_is_cancelled() {
    for (n, statement) in
        ["DROP TABLE t", "SELECT sequin.alter_source('src', tables => '{marker}')"]
            .into_iter()
            .enumerate()
    {
        let mut fixture = Fixture::new(&format!("dropped_in_backfill_{n}"), &table_t());
        let client = &mut fixture.client;
        client.create_source("src", &["t"], "backfill => false");
        let mut job = Halted::start(&fixture.database, client, "t");
        client.batch_execute(statement).unwrap();
        job.go_on();
        client.wait_for("it is cancelled", |client| job.status(client) == "cancelled");
        assert_eq!(client.wait_for_status("src", "streaming"), "");
        client.catch_up();
    }
}

fn a_locked_table_holds_up_no_changes_of_others() {
    let mut fixture = Fixture::new("locked_in_backfill", &table_t());
    let mut other = fixture.database.connect();
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    let mut job = Halted::start(&fixture.database, client, "t");
    other.batch_execute("BEGIN; LOCK TABLE s1.t IN ACCESS EXCLUSIVE MODE").unwrap();
    job.go_on();
    // Who waits for it captures nothing.
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 's1.t'::regclass AND NOT granted";
    for _ in 0..20 {
        client.catch_up();
        assert_eq!(client.number(waits), 0);
    }
    assert_eq!(job.status(client), "running");
    other.batch_execute("COMMIT").unwrap();
    client.wait_for("it is done", |client| job.status(client) == "done");
    assert_eq!(job.rows_read(client), SOME_ROWS);
}

const DONE: &str = "SELECT count(*) FROM sequin.backfills WHERE status = 'done'";

const SOME_ROWS: i64 = 3000;

const LAST: &str = r#"{"a": 1, "v": 0, "id": 3000}"#;

fn table_t() -> String {
    let insert = insert("t");
    format!(
        "CREATE SCHEMA s1; SET search_path = s1, s2, public;
         CREATE TABLE t (id int PRIMARY KEY, a int, v int); {insert}"
    )
}

/// In the first hundred of its rows, a is 0.
fn insert(table: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT n, (n > 100)::int, 0 FROM generate_series(1, {SOME_ROWS}) n"
    )
}

/// A backfill that has read a hundred rows, and no more before it is told to go on.
struct Halted {
    id: i64,
    /// Whose lock the rest waits for: no session that does something to the table, which would be a deadlock.
    gate: Client,
}

impl Halted {
    fn start(database: &Database, client: &mut Client, table: &str) -> Halted {
        let mut gate = database.connect();
        gate.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        let condition = "a = 0 OR pg_advisory_xact_lock_shared(1) IS NOT NULL";
        let start = format!("SELECT sequin.backfill('src', '{table}', '{condition}')");
        let job = Halted { id: client.number(&start), gate };
        client.wait_for("a part is read", |client| job.rows_read(client) == 100);
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        client.wait_for("the next part waits", |client| client.number(waiting) == 1);
        job
    }

    fn go_on(&mut self) {
        self.gate.batch_execute("SELECT pg_advisory_unlock(1)").unwrap();
    }

    fn status(&self, client: &mut Client) -> String {
        client.text(&format!("SELECT status FROM sequin.backfills WHERE id = {}", self.id))
    }

    fn rows_read(&self, client: &mut Client) -> i64 {
        client.number(&format!("SELECT rows_read FROM sequin.backfills WHERE id = {}", self.id))
    }
}
