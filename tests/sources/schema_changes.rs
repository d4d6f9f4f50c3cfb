//! Tables that change their shape or their name: a record is the row as it was at that time.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_identical, replay};
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
        generated_columns_are_in_the_record,
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
