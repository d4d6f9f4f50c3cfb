//! The user's own publication, with what it leaves out.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        a_publication_of_the_users_is_read_and_left,
        row_filters_and_column_lists_hold,
        a_publication_of_inserts_only_takes_tables_without_a_key,
        a_publication_of_a_schema_takes_its_new_tables,
        tables_and_a_publication_are_not_both_to_be_given,
    ]
}

fn create(settings: &str) -> String {
    format!("SELECT sequin.create_source('src', 's', publication => 'p', {settings})")
}

fn a_publication_of_the_users_is_read_and_left() {
    let tables = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
                  CREATE PUBLICATION p FOR TABLE t, marker";
    let mut fixture = Fixture::new("own_publication", tables);
    let client = &mut fixture.client;
    client.batch_execute(&create("backfill => true")).unwrap();
    client.finish_backfills();
    client.batch_execute("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(client.messages_after(0), [r#"read t {"id": 1}"#, r#"insert t {"id": 2}"#]);
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    client.wait_for("the slot is dropped", |client| client.slots().is_empty());
    assert_eq!(client.publications(), ["p"]);
}

fn row_filters_and_column_lists_hold() {
    let mut fixture = Fixture::new("filters_of_rows", "");
    let client = &mut fixture.client;
    if client.number("SELECT current_setting('server_version_num')::bigint") < 150_000 {
        return;
    }
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int, secret text);
             ALTER TABLE t REPLICA IDENTITY FULL;
             CREATE TABLE u (id int PRIMARY KEY, v int, secret text);
             INSERT INTO t SELECT n, n, 'x' FROM generate_series(1, 4) n;
             INSERT INTO u SELECT n, n, 'x' FROM generate_series(1, 2) n;
             CREATE PUBLICATION p FOR TABLE t WHERE (v > 2), u (id, v), marker",
        )
        .unwrap();
    client.batch_execute(&create("backfill => true")).unwrap();
    client.finish_backfills();
    let mut reads = client.messages_after(0);
    reads.sort();
    assert_eq!(
        reads,
        [
            r#"read t {"v": 3, "id": 3, "secret": "x"}"#,
            r#"read t {"v": 4, "id": 4, "secret": "x"}"#,
            r#"read u {"v": 1, "id": 1}"#,
            r#"read u {"v": 2, "id": 2}"#,
        ]
    );
    let got = client.messages_of(&[
        "INSERT INTO t VALUES (5, 5, 'y'), (6, 0, 'y')",
        "UPDATE t SET v = 7 WHERE id = 6",
        "UPDATE t SET v = 0 WHERE id = 5",
        "UPDATE t SET v = -1 WHERE id = 5",
        "DELETE FROM t WHERE id = 5",
        "UPDATE u SET secret = 'z', v = 0 WHERE id = 1",
        "DELETE FROM u WHERE id = 1",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"v": 5, "id": 5, "secret": "y"}"#,
            r#"insert t {"v": 7, "id": 6, "secret": "y"}"#,
            r#"delete t {"v": 5, "id": 5, "secret": "y"}"#,
            r#"update u {"v": 0, "id": 1}"#,
            r#"delete u {"id": 1}"#,
        ]
    );
    let secrets = "SELECT count(*) FROM sequin_stream.s
                   WHERE data->'metadata'->>'table' = 'u' AND data::text LIKE '%secret%'";
    assert_eq!(client.number(secrets), 0);
}

fn a_publication_of_inserts_only_takes_tables_without_a_key() {
    let tables = "CREATE TABLE t (v int);
                  CREATE PUBLICATION p FOR TABLE t, marker WITH (publish = 'insert')";
    let mut fixture = Fixture::new("inserts_only", tables);
    let client = &mut fixture.client;
    client.batch_execute(&create("backfill => false")).unwrap();
    let got = client.messages_of(&[
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET v = 2",
        "DELETE FROM t",
        "TRUNCATE t",
        "INSERT INTO t VALUES (3)",
    ]);
    assert_eq!(got, [r#"insert t {"v": 1}"#, r#"insert t {"v": 3}"#]);
}

fn a_publication_of_a_schema_takes_its_new_tables() {
    let mut fixture = Fixture::new("published_schema", "");
    let client = &mut fixture.client;
    if client.number("SELECT current_setting('server_version_num')::bigint") < 150_000 {
        return;
    }
    client.batch_execute("CREATE PUBLICATION p FOR TABLES IN SCHEMA public").unwrap();
    client.batch_execute(&create("backfill => false")).unwrap();
    let got =
        client.messages_of(&["CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)"]);
    assert_eq!(got, [r#"insert t {"id": 1}"#]);
}

fn tables_and_a_publication_are_not_both_to_be_given() {
    let tables = "CREATE PUBLICATION p FOR TABLE marker";
    let mut fixture = Fixture::new("both_given", tables);
    let both = create("tables => ARRAY['marker']::regclass[]");
    assert_eq!(sqlstate(fixture.client.batch_execute(&both)), "22023");
    let unknown = create("backfill => false").replace("'p'", "'unknown'");
    assert_eq!(sqlstate(fixture.client.batch_execute(&unknown)), "42704");
}
