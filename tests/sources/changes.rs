//! What a change becomes: action, record, changes, metadata.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources, create_source};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        inserts_updates_deletes_and_truncates_are_messages,
        full_identity_tells_the_old_row,
        rows_of_several_key_columns_are_told_apart,
        a_change_of_the_key_tells_the_old_key,
        an_identity_by_another_index_tells_its_columns,
        a_table_without_a_key_needs_full_identity,
        a_table_without_a_key_can_be_captured_by_its_full_identity,
        metadata_says_where_a_change_is_from,
        what_a_savepoint_undoes_does_not_come,
        a_prepared_transaction_comes_when_it_is_committed,
        a_value_that_jsonb_cannot_hold_stops_nothing,
    ]
}

fn inserts_updates_deletes_and_truncates_are_messages() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)";
    let mut fixture = Fixture::capturing("actions", tables, &["t", "u"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 'a'), (2, NULL)",
        "UPDATE t SET v = 'b' WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
        "INSERT INTO t VALUES (2, 'c') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "INSERT INTO u VALUES (7)",
        "TRUNCATE t",
        "TRUNCATE u",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"v": "a", "id": 1}"#,
            r#"insert t {"v": null, "id": 2}"#,
            r#"update t {"v": "b", "id": 1}"#,
            r#"delete t {"id": 1}"#,
            r#"update t {"v": "c", "id": 2}"#,
            r#"insert u {"id": 7}"#,
            "truncate t",
            "truncate u",
        ]
    );
    let mut got = fixture.client.messages_of(&["TRUNCATE t, u"]);
    got.sort();
    assert_eq!(got, ["truncate t", "truncate u"]);
}

fn full_identity_tells_the_old_row() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, a int, b text, c text);
                 ALTER TABLE t REPLICA IDENTITY FULL";
    let mut fixture = Fixture::capturing("full_identity", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 1, 'x', NULL)",
        "UPDATE t SET a = NULL, b = 'y'",
        "UPDATE t SET c = 'z'",
        "UPDATE t SET id = 2",
        "DELETE FROM t",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"a": 1, "b": "x", "c": null, "id": 1}"#,
            r#"update t {"a": null, "b": "y", "c": null, "id": 1} {"a": 1, "b": "x"}"#,
            r#"update t {"a": null, "b": "y", "c": "z", "id": 1} {"c": null}"#,
            r#"update t {"a": null, "b": "y", "c": "z", "id": 2} {"id": 1}"#,
            r#"delete t {"a": null, "b": "y", "c": "z", "id": 2}"#,
        ]
    );
}

fn rows_of_several_key_columns_are_told_apart() {
    // The key's order is not the columns'.
    let table = "CREATE TABLE t (a text, v int, b int, PRIMARY KEY (b, a))";
    let mut fixture = Fixture::capturing("several_keys", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES ('x', 0, 1), ('x', 0, 2), ('y', 0, 1)",
        "UPDATE t SET v = 1 WHERE a = 'x' AND b = 2",
        "UPDATE t SET a = 'z' WHERE a = 'x' AND b = 2",
        "DELETE FROM t WHERE a = 'y'",
    ]);
    assert_eq!(
        got[3..],
        [
            r#"update t {"a": "x", "b": 2, "v": 1}"#,
            r#"update t {"a": "z", "b": 2, "v": 1} {"a": "x"}"#,
            r#"delete t {"a": "y", "b": 1}"#,
        ]
    );
    let keys = fixture.client.texts(
        "SELECT key FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(
        keys,
        [
            "public.t.1,x",
            "public.t.2,x",
            "public.t.1,y",
            "public.t.2,x",
            "public.t.2,z",
            "public.t.1,y"
        ]
    );
}

fn a_change_of_the_key_tells_the_old_key() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v int)";
    let mut fixture = Fixture::capturing("changed_key", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 0), (2, 0)",
        "UPDATE t SET id = 3, v = 1 WHERE id = 1",
        "UPDATE t SET v = 2 WHERE id = 3",
    ]);
    assert_eq!(
        got[2..],
        [r#"update t {"v": 1, "id": 3} {"id": 1}"#, r#"update t {"v": 2, "id": 3}"#]
    );
}

fn an_identity_by_another_index_tells_its_columns() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, v int);
                 CREATE UNIQUE INDEX t_code ON t (code);
                 ALTER TABLE t REPLICA IDENTITY USING INDEX t_code";
    let mut fixture = Fixture::new("other_identity", table);
    let client = &mut fixture.client;
    client
        .batch_execute("INSERT INTO t SELECT n, 'c' || n, 0 FROM generate_series(1, 5) n")
        .unwrap();
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    let reads = "SELECT count(*) FROM sequin_stream.s
                 WHERE data->>'action' = 'read' AND data->'metadata'->>'table' = 't'";
    assert_eq!(client.number(reads), 5);
    let got = client.messages_of(&[
        "UPDATE t SET v = 1 WHERE id = 1",
        "UPDATE t SET code = 'd' WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
    ]);
    assert_eq!(
        got,
        [
            r#"update t {"v": 1, "id": 1, "code": "c1"}"#,
            r#"update t {"v": 1, "id": 1, "code": "d"} {"code": "c1"}"#,
            r#"delete t {"code": "d"}"#,
        ]
    );
}

fn a_table_without_a_key_needs_full_identity() {
    let mut fixture = Fixture::new("no_key", "CREATE TABLE keyless (v int)");
    let client = &mut fixture.client;
    let error = client.batch_execute(&create_source("src", &["keyless"], "")).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(error.message().contains("keyless"), "{error:?}");
    assert!(error.hint().unwrap_or_default().contains("REPLICA IDENTITY"), "{error:?}");
    // Nor does it make updates of the table impossible.
    client.batch_execute("INSERT INTO keyless VALUES (1); UPDATE keyless SET v = 2").unwrap();
    client.wait_for("no slot is left of it", |client| client.slots().is_empty());
    assert_eq!(client.publications(), [""; 0]);
}

fn a_table_without_a_key_can_be_captured_by_its_full_identity() {
    let table = "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL";
    let mut fixture = Fixture::capturing("keyless", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 'x'), (1, 'x')",
        "UPDATE t SET b = 'y' WHERE ctid = (SELECT min(ctid) FROM t)",
        "DELETE FROM t WHERE b = 'x'",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"a": 1, "b": "x"}"#,
            r#"insert t {"a": 1, "b": "x"}"#,
            r#"update t {"a": 1, "b": "y"} {"b": "x"}"#,
            r#"delete t {"a": 1, "b": "x"}"#,
        ]
    );
    let other = "SELECT count(*) FROM sequin_stream.s
                 WHERE data->'metadata'->>'table' = 't' AND key <> 'public.t.%null'";
    assert_eq!(fixture.client.number(other), 0);
}

fn metadata_says_where_a_change_is_from() {
    let table =
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE noted (n int, xid text, lsn text)";
    let mut fixture = Fixture::capturing("metadata", table, &["t"]);
    let client = &mut fixture.client;
    client
        .batch_execute(
            "BEGIN; INSERT INTO t VALUES (1), (2); INSERT INTO noted VALUES (1, pg_current_xact_id(), pg_current_wal_insert_lsn()); COMMIT;
             BEGIN; INSERT INTO t VALUES (3); INSERT INTO noted VALUES (2, pg_current_xact_id(), pg_current_wal_insert_lsn()); COMMIT;
             INSERT INTO noted VALUES (3, NULL, pg_current_wal_insert_lsn())",
        )
        .unwrap();
    client.catch_up();
    let told = client.texts(
        "SELECT concat_ws(' ', record->>'id', m->>'source', m->>'database', m->>'schema', m->>'table', m->>'index',
                          m->>'xid' = begun.xid,
                          (m->>'commit_lsn')::pg_lsn BETWEEN begun.lsn::pg_lsn AND ended.lsn::pg_lsn,
                          (m->>'commit_time')::timestamptz BETWEEN clock_timestamp() - '1 min'::interval AND clock_timestamp(),
                          m->>'commit_time' = to_jsonb((m->>'commit_time')::timestamptz) #>> '{}')
         FROM (SELECT seq, data->'record' AS record, data->'metadata' AS m FROM sequin_stream.s) s
         JOIN noted begun ON begun.n = CASE WHEN record->>'id' = '3' THEN 2 ELSE 1 END
         JOIN noted ended ON ended.n = begun.n + 1
         WHERE m->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(
        told,
        [
            "1 src metadata public t 0 t t t t",
            "2 src metadata public t 1 t t t t",
            "3 src metadata public t 0 t t t t"
        ]
    );
    let members = client.texts(
        "SELECT DISTINCT concat_ws(' ', (SELECT string_agg(key, ',' ORDER BY key) FROM jsonb_object_keys(data) key),
                                   (SELECT string_agg(key, ',' ORDER BY key) FROM jsonb_object_keys(data->'metadata') key))
         FROM sequin_stream.s",
    );
    assert_eq!(
        members,
        [
            "action,changes,metadata,record commit_lsn,commit_time,database,index,schema,source,table,xid"
        ]
    );
}

fn what_a_savepoint_undoes_does_not_come() {
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    let mut fixture = Fixture::capturing("savepoints_of_sources", table, &["t"]);
    let got = fixture.client.messages_of(&[
        "BEGIN; INSERT INTO t VALUES (1);
         SAVEPOINT a; INSERT INTO t VALUES (2);
         SAVEPOINT b; INSERT INTO t VALUES (3); ROLLBACK TO b; INSERT INTO t VALUES (4); RELEASE a;
         SAVEPOINT c; INSERT INTO t VALUES (5); ROLLBACK TO c; COMMIT",
        "BEGIN; INSERT INTO t VALUES (6); ROLLBACK",
        "DO $$ BEGIN INSERT INTO t VALUES (7); INSERT INTO t VALUES (7); EXCEPTION WHEN unique_violation THEN NULL; END $$",
        "INSERT INTO t VALUES (8)",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"id": 1}"#,
            r#"insert t {"id": 2}"#,
            r#"insert t {"id": 4}"#,
            r#"insert t {"id": 8}"#
        ]
    );
    super::replay::assert_each_once(&mut fixture.client);
}

fn a_prepared_transaction_comes_when_it_is_committed() {
    let cluster = sequin_testkit::cluster::Cluster::start_with(&format!(
        "{}max_prepared_transactions = 5",
        crate::harness::LOGICAL_DECODING
    ));
    let mut fixture = Fixture::on(&cluster, "prepared", "CREATE TABLE t (id int PRIMARY KEY)");
    fixture.client.create_source("src", &["t"], "backfill => false");
    let got = fixture.client.messages_of(&[
        "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'one'",
        "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'two'",
        "INSERT INTO t VALUES (3)",
    ]);
    assert_eq!(got, [r#"insert t {"id": 3}"#]);
    let got = fixture.client.messages_of(&[
        "COMMIT PREPARED 'two'",
        "ROLLBACK PREPARED 'one'",
        "INSERT INTO t VALUES (4)",
    ]);
    assert_eq!(got, [r#"insert t {"id": 2}"#, r#"insert t {"id": 4}"#]);
}

/// A json can have what a jsonb can't.
fn a_value_that_jsonb_cannot_hold_stops_nothing() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v json)";
    let mut fixture = Fixture::new("not_jsonb", table);
    let client = &mut fixture.client;
    client.batch_execute(r#"INSERT INTO t VALUES (1, '"\u0000"'), (2, '1')"#).unwrap();
    assert_eq!(sqlstate(client.batch_execute("SELECT to_jsonb(t) FROM t")), "22P05");
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    client.batch_execute(r#"INSERT INTO t VALUES (3, '"\u0000"'), (4, '1')"#).unwrap();
    client.catch_up();
    let ids = client.texts(
        "SELECT data->'record'->>'id' FROM sequin_stream.s
         WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(ids, ["1", "2", "3", "4"]);
}
