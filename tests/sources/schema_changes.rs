//! Tables that change their shape or their name: a record is the row as it was at that time.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_identical, replay};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        columns_come_and_go_between_transactions,
        columns_come_and_go_within_a_transaction,
        a_changed_type_is_the_type_of_its_time,
        a_rewritten_table_is_not_changed,
        a_renamed_table_is_captured_under_its_new_name,
        a_table_can_be_moved_to_another_schema,
        quoted_names_are_kept,
        a_renamed_schema_holds_from_its_commit_on,
        generated_columns_are_in_the_record,
        generated_columns_are_what_was_stored,
        generated_columns_in_a_full_identity_keep_nobody_from_updating,
        fields_of_composite_types_are_those_of_their_time,
        what_could_not_be_written_at_once_is_of_its_time,
        a_table_that_gets_another_key_is_keyed_by_it,
        a_table_that_is_dropped_disturbs_no_other,
        an_added_table_is_captured_from_then_on,
    ]
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int)";

fn columns_come_and_go_between_transactions() {
    let mut fixture = Fixture::capturing("columns_between", TABLE, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 1)",
        "ALTER TABLE t ADD COLUMN b text DEFAULT 'x'",
        "UPDATE t SET a = 2",
        "ALTER TABLE t RENAME COLUMN a TO c",
        "UPDATE t SET c = 3",
        "ALTER TABLE t DROP COLUMN c",
        "UPDATE t SET b = 'y'",
        "ALTER TABLE t ADD COLUMN a date",
        "UPDATE t SET b = 'z'",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"a": 1, "id": 1}"#,
            r#"update t {"a": 2, "b": "x", "id": 1}"#,
            r#"update t {"b": "x", "c": 3, "id": 1}"#,
            r#"update t {"b": "y", "id": 1}"#,
            r#"update t {"a": null, "b": "z", "id": 1}"#,
        ]
    );
}

fn columns_come_and_go_within_a_transaction() {
    let mut fixture = Fixture::capturing("columns_within", TABLE, &["t"]);
    let client = &mut fixture.client;
    // All of it may be decoded when nothing of it is true any more.
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    let transaction = "BEGIN; INSERT INTO t VALUES (1, 1);
         ALTER TABLE t ADD COLUMN b text DEFAULT 'x'; ALTER TABLE t ALTER COLUMN b DROP DEFAULT; UPDATE t SET a = 2;
         SAVEPOINT s; ALTER TABLE t RENAME COLUMN a TO c; UPDATE t SET c = 3; ROLLBACK TO s;
         ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (2, 'y');
         ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (3, 'z'); ALTER TABLE u RENAME TO t; COMMIT";
    client.batch_execute(transaction).unwrap();
    let last = "ALTER TABLE t RENAME COLUMN b TO d; INSERT INTO t VALUES (4, 'w');
                ALTER TABLE t ALTER COLUMN d TYPE jsonb USING to_jsonb(d)";
    client.batch_execute(last).unwrap();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    assert_eq!(
        client.messages_after(0),
        [
            r#"insert t {"a": 1, "id": 1}"#,
            r#"update t {"a": 2, "b": "x", "id": 1}"#,
            r#"insert t {"b": "y", "id": 2}"#,
            r#"insert u {"b": "z", "id": 3}"#,
            r#"insert t {"d": "w", "id": 4}"#,
        ]
    );
}

fn a_changed_type_is_the_type_of_its_time() {
    let table = "CREATE TYPE mood AS ENUM ('sad', 'ok');
                 CREATE TYPE pair AS (x int, y text);
                 CREATE TABLE t (id int PRIMARY KEY, v text)";
    let mut fixture = Fixture::capturing("changed_type", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, '7')",
        "ALTER TABLE t ALTER COLUMN v TYPE int USING v::int",
        "UPDATE t SET v = 8",
        "ALTER TABLE t ALTER COLUMN v TYPE mood USING 'sad'",
        "UPDATE t SET v = 'ok'",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TYPE mood ADD VALUE 'glad'",
        "UPDATE t SET v = 'glad'",
        "ALTER TABLE t ALTER COLUMN v TYPE pair USING row(1, 'z')::pair",
        "UPDATE t SET v.x = 2",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"v": "7", "id": 1}"#,
            r#"update t {"v": 8, "id": 1}"#,
            r#"update t {"v": "ok", "id": 1}"#,
            r#"update t {"v": "glad", "id": 1}"#,
            r#"update t {"v": {"x": 2, "y": "z"}, "id": 1}"#,
        ]
    );
}

/// What VACUUM FULL, CLUSTER and ALTER TABLE write is no change of a row.
fn a_rewritten_table_is_not_changed() {
    let mut fixture = Fixture::capturing("rewritten", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.batch_execute("INSERT INTO t SELECT n, n FROM generate_series(1, 100) n").unwrap();
    client.catch_up();
    let got = client.messages_of(&[
        "VACUUM FULL t",
        "CLUSTER t USING t_pkey",
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t ADD COLUMN b float DEFAULT random()",
        "CREATE INDEX ON t (a)",
        "UPDATE t SET a = -1, b = 0 WHERE id = 1",
    ]);
    assert_eq!(got, [r#"update t {"a": -1, "b": 0, "id": 1}"#]);
}

fn a_renamed_table_is_captured_under_its_new_name() {
    let mut fixture = Fixture::capturing("renamed", TABLE, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 1)",
        "ALTER TABLE t RENAME TO u",
        "INSERT INTO u VALUES (2, 2)",
        // No table of the source.
        "CREATE TABLE t (id int PRIMARY KEY, a int)",
        "INSERT INTO t VALUES (3, 3)",
    ]);
    assert_eq!(got, [r#"insert t {"a": 1, "id": 1}"#, r#"insert u {"a": 2, "id": 2}"#]);
}

fn a_table_can_be_moved_to_another_schema() {
    let mut fixture = Fixture::capturing("moved", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&[
        "CREATE SCHEMA elsewhere",
        "ALTER TABLE t SET SCHEMA elsewhere",
        "INSERT INTO elsewhere.t VALUES (1, 1)",
    ]);
    let key = "SELECT key FROM sequin_stream.s WHERE data->'metadata'->>'schema' = 'elsewhere'";
    assert_eq!(client.texts(key), ["elsewhere.t.1"]);
}

fn quoted_names_are_kept() {
    let tables = r#"CREATE SCHEMA "We ird";
        CREATE TABLE "We ird"."ta.ble ""q"" 'x'" ("the id" text PRIMARY KEY, "a.b" int, "ü""' \" int);
        INSERT INTO "We ird"."ta.ble ""q"" 'x'" VALUES ('a b.c', 1, 2)"#;
    let name = r#""We ird"."ta.ble ""q"" 'x'""#;
    let mut fixture = Fixture::new("quoted", tables);
    let client = &mut fixture.client;
    client.create_source("src", &[name], "");
    client.finish_backfills();
    let got = client.messages_of(&[
        &format!(r#"UPDATE {name} SET "a.b" = 3"#),
        &format!(r#"UPDATE {name} SET "the id" = '*>%,'"#),
        &format!(r#"DELETE FROM {name}"#),
    ]);
    assert_eq!(
        got,
        [
            r#"update ta.ble "q" 'x' {"a.b": 3, "the id": "a b.c", "ü\"' \\": 2}"#,
            r#"update ta.ble "q" 'x' {"a.b": 3, "the id": "*>%,", "ü\"' \\": 2} {"the id": "a b.c"}"#,
            r#"delete ta.ble "q" 'x' {"the id": "*>%,"}"#,
        ]
    );
    let keys = client.texts(
        "SELECT key FROM sequin_stream.s WHERE data->'metadata'->>'schema' = 'We ird' ORDER BY seq",
    );
    let table = r#"We%20ird.ta%2Eble%20"q"%20'x'"#;
    assert_eq!(
        keys,
        ["a%20b%2Ec", "a%20b%2Ec", "%2A%3E%25%2C", "%2A%3E%25%2C"]
            .map(|id| format!("{table}.{id}"))
    );
}

fn generated_columns_are_in_the_record() {
    let table =
        "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED,
                                 i int GENERATED ALWAYS AS IDENTITY);
                 INSERT INTO t VALUES (1, 1)";
    let mut fixture = Fixture::new("generated", table);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    client.batch_execute("INSERT INTO t VALUES (2, 2); UPDATE t SET a = 10 WHERE id = 1").unwrap();
    assert_eq!(
        client.messages_after(0),
        [
            r#"read t {"a": 1, "g": 2, "i": 1, "id": 1}"#,
            r#"insert t {"a": 2, "g": 4, "i": 2, "id": 2}"#,
            r#"update t {"a": 10, "g": 20, "i": 1, "id": 1}"#,
        ]
    );
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
}

fn a_table_that_gets_another_key_is_keyed_by_it() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL)";
    let mut fixture = Fixture::capturing("another_key", table, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&[
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (code)",
        "INSERT INTO t VALUES (2, 'b')",
        "DELETE FROM t WHERE id = 1",
    ]);
    let got = client.texts(
        "SELECT key || ' ' || (data->>'record') FROM sequin_stream.s
         WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(
        got[1..],
        [r#"public.t.b {"id": 2, "code": "b"}"#, r#"public.t.a {"code": "a"}"#],
        "{got:?}"
    );
}

fn a_table_that_is_dropped_disturbs_no_other() {
    let tables =
        "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE TABLE u (id int PRIMARY KEY, a int)";
    let mut fixture = Fixture::capturing("dropped_table", tables, &["t", "u"]);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    client
        .batch_execute(
            "INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1, 1);
             BEGIN; INSERT INTO t VALUES (2, 2); DROP TABLE t; INSERT INTO u VALUES (2, 2); COMMIT",
        )
        .unwrap();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    let got = client.messages_after(0);
    // What the dropped table was like may be unknown by now.
    let of_u: Vec<_> = got.iter().filter(|line| line.starts_with("insert u")).collect();
    assert_eq!(of_u, [r#"insert u {"a": 1, "id": 1}"#, r#"insert u {"a": 2, "id": 2}"#]);
}

fn an_added_table_is_captured_from_then_on() {
    let tables =
        "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE TABLE u (id int PRIMARY KEY, a int);
         INSERT INTO u VALUES (1, 1)";
    let mut fixture = Fixture::capturing("added_table", tables, &["t"]);
    let client = &mut fixture.client;
    let add = "SELECT sequin.alter_source('src', tables => '{t,u,marker}')";
    let got =
        client.messages_of(&["INSERT INTO u VALUES (2, 2)", add, "INSERT INTO u VALUES (3, 3)"]);
    assert_eq!(got, [r#"insert u {"a": 3, "id": 3}"#]);
}

fn a_renamed_schema_holds_from_its_commit_on() {
    let tables = "CREATE SCHEMA one; CREATE TABLE one.t (id int PRIMARY KEY, v int)";
    let mut fixture = Fixture::capturing("renamed_schema", tables, &["one.t"]);
    let client = &mut fixture.client;
    client.messages_of(&[
        "INSERT INTO one.t VALUES (1)",
        "ALTER SCHEMA one RENAME TO two",
        "UPDATE two.t SET v = 1",
        "BEGIN; UPDATE two.t SET v = 2; ALTER SCHEMA two RENAME TO three; UPDATE three.t SET v = 3; COMMIT",
        "DELETE FROM three.t",
    ]);
    let names = "SELECT key || ' ' || (data->'metadata'->>'schema') FROM sequin_stream.s
                 WHERE data->'metadata'->>'table' = 't' ORDER BY seq";
    assert_eq!(
        client.texts(names),
        ["one.t.1 one", "two.t.1 two", "two.t.1 two", "three.t.1 three", "three.t.1 three"]
    );
}

/// Not computed anew: their functions may need a search_path, fail, or be others by now.
fn generated_columns_are_what_was_stored() {
    let table = "CREATE SCHEMA lib;
        CREATE FUNCTION lib.twice(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * n';
        CREATE FUNCTION quad(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN twice(twice(n)); END';
        CREATE FUNCTION size(v text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN length(v); END';
        CREATE TABLE t (id int PRIMARY KEY, n int, v text,
            a int GENERATED ALWAYS AS (n + 1) STORED, q int GENERATED ALWAYS AS (quad(n)) STORED,
            l int GENERATED ALWAYS AS (size(v)) STORED, c text GENERATED ALWAYS AS (v || '!') STORED);
        ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER c SET STORAGE EXTERNAL";
    let mut fixture = Fixture::capturing("generated_stored", table, &["t"]);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    client
        .batch_execute(
            "SET search_path = public, lib;
             INSERT INTO t VALUES (1, 1, 'v'), (2, 2, repeat('x', 5000));
             UPDATE t SET n = 3 WHERE id = 2;
             UPDATE t SET n = 4 WHERE id = 2;
             ALTER TABLE t REPLICA IDENTITY FULL;
             DELETE FROM t WHERE id = 1;
             CREATE OR REPLACE FUNCTION lib.twice(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 3 * n';
             ALTER TABLE t DROP a; ALTER TABLE t RENAME l TO len; ALTER TABLE t RENAME v TO w;
             ALTER TABLE t RENAME n TO v; DELETE FROM t; RESET search_path",
        )
        .unwrap();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    client.catch_up();
    let short = "SELECT concat_ws(' ', data->>'action',
                        (SELECT jsonb_object_agg(name, CASE WHEN length(v) < 100 THEN v ELSE length(v)::text END)
                         FROM jsonb_each_text(data->'record') r (name, v)), data->'metadata'->>'unchanged')
                 FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't' ORDER BY seq";
    assert_eq!(
        client.texts(short),
        [
            r#"insert {"a": "2", "c": "v!", "l": "1", "n": "1", "q": "4", "v": "v", "id": "1"}"#,
            r#"insert {"a": "3", "c": "5001", "l": "5000", "n": "2", "q": "8", "v": "5000", "id": "2"}"#,
            r#"update {"a": "4", "l": "5000", "n": "3", "q": "12", "id": "2"} ["v", "c"]"#,
            r#"update {"a": "5", "l": "5000", "n": "4", "q": "16", "id": "2"} ["v", "c"]"#,
            r#"delete {"a": "2", "c": "v!", "l": "1", "n": "1", "q": "4", "v": "v", "id": "1"}"#,
            r#"delete {"c": "5001", "q": "16", "v": "4", "w": "5000", "id": "2", "len": "5000"}"#,
        ]
    );
}

/// From PostgreSQL 18 on, updates of such tables are refused if their generated columns are not published, and virtual ones
/// never are.
fn generated_columns_in_a_full_identity_keep_nobody_from_updating() {
    let table = "CREATE TABLE t (a int, g int GENERATED ALWAYS AS (a * 2) STORED);
                 ALTER TABLE t REPLICA IDENTITY FULL";
    let mut fixture = Fixture::capturing("generated_full", table, &["t"]);
    let client = &mut fixture.client;
    let got =
        client.messages_of(&["INSERT INTO t VALUES (1)", "UPDATE t SET a = 2", "DELETE FROM t"]);
    assert_eq!(
        got,
        [
            r#"insert t {"a": 1, "g": 2}"#,
            r#"update t {"a": 2, "g": 4} {"a": 1, "g": 2}"#,
            r#"delete t {"a": 2, "g": 4}"#
        ]
    );
    if client.number("SELECT current_setting('server_version_num')::bigint") < 180_000 {
        return;
    }
    client
        .batch_execute(
            "CREATE TABLE v (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) VIRTUAL);
             ALTER TABLE v REPLICA IDENTITY FULL; INSERT INTO v VALUES (1)",
        )
        .unwrap();
    let create = "SELECT sequin.create_source('virtual', 's', tables => '{v}')";
    assert_eq!(sqlstate(client.batch_execute(create)), "55000");
    client.batch_execute("UPDATE v SET id = 2; ALTER TABLE v REPLICA IDENTITY DEFAULT").unwrap();
    client.batch_execute(create).unwrap();
    client.batch_execute("UPDATE v SET id = 3").unwrap();
}

fn fields_of_composite_types_are_those_of_their_time() {
    let table = "CREATE TYPE pair AS (x int, y text); CREATE DOMAIN pairs AS pair[];
                 CREATE TABLE t (id int PRIMARY KEY, p pair, l pairs)";
    let mut fixture = Fixture::capturing("composites", table, &["t"]);
    let client = &mut fixture.client;
    let insert = |n, p| format!("INSERT INTO t VALUES ({n}, {p}, ARRAY[{p}]::pair[])");
    client.batch_execute(&insert(1, "row(1, 'a')")).unwrap();
    client.catch_up();
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    for statement in [
        &format!("BEGIN; {}", insert(2, "row(2, 'b')")),
        "ALTER TYPE pair RENAME ATTRIBUTE x TO z",
        &insert(3, "row(3, 'c')"),
        "ALTER TYPE pair DROP ATTRIBUTE y",
        "ALTER TYPE pair ADD ATTRIBUTE w text",
        &format!("{}; COMMIT", insert(4, "row(4, 'd')")),
        "ALTER TYPE pair RENAME ATTRIBUTE w TO x",
        "UPDATE t SET id = 5 WHERE id = 4",
        "DROP TABLE t; DROP TYPE pair CASCADE",
    ] {
        client.batch_execute(statement).unwrap();
    }
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    let got: Vec<String> = client.messages_after(0);
    assert_eq!(
        got,
        [
            r#"insert t {"l": [{"x": 1, "y": "a"}], "p": {"x": 1, "y": "a"}, "id": 1}"#,
            r#"insert t {"l": [{"x": 2, "y": "b"}], "p": {"x": 2, "y": "b"}, "id": 2}"#,
            r#"insert t {"l": [{"y": "c", "z": 3}], "p": {"y": "c", "z": 3}, "id": 3}"#,
            r#"insert t {"l": [{"w": "d", "z": 4}], "p": {"w": "d", "z": 4}, "id": 4}"#,
            r#"update t {"l": [{"x": "d", "z": 4}], "p": {"x": "d", "z": 4}, "id": 5} {"id": 4}"#,
        ]
    );
}

/// The same messages are read again then, from before the table was altered.
fn what_could_not_be_written_at_once_is_of_its_time() {
    let mut fixture = Fixture::capturing("written_later", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    let mut other = fixture.database.connect();
    other.batch_execute("BEGIN; LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();
    let client = &mut fixture.client;
    client
        .batch_execute(
            "BEGIN; UPDATE t SET a = 2; ALTER TABLE t RENAME a TO b; UPDATE t SET b = 3; COMMIT",
        )
        .unwrap();
    client.wait_for("it could not be written", |client| !client.status("src").1.is_empty());
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(
        client.messages_after(0),
        [
            r#"insert t {"a": 1, "id": 1}"#,
            r#"update t {"a": 2, "id": 1}"#,
            r#"update t {"b": 3, "id": 1}"#,
        ]
    );
}
