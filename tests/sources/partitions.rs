//! Partitioned tables are captured as their root.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_identical, replay};
use crate::calls::{Calls, sqlstate};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        changes_of_partitions_are_their_roots,
        a_backfill_of_the_root_reads_all_partitions,
        rows_of_attached_partitions_come_and_of_detached_ones_do_not,
        a_partition_alone_is_captured_as_itself,
        tables_that_inherit_are_captured_as_themselves,
        a_table_that_inherits_is_checked_like_one_that_is_named,
    ]
}

const TABLES: &str = "
    CREATE TABLE t (id int, part text, v int, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
    CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
    CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b') PARTITION BY RANGE (id);
    CREATE TABLE t_b_1 PARTITION OF t_b FOR VALUES FROM (0) TO (100);
    CREATE TABLE other (v int, gone int, part text NOT NULL, id int NOT NULL);
    ALTER TABLE other DROP COLUMN gone;
    ALTER TABLE other ADD PRIMARY KEY (part, id);
    INSERT INTO other (id, part, v) VALUES (1, 'c', 0)";

fn changes_of_partitions_are_their_roots() {
    let mut fixture = Fixture::capturing("partitions", TABLES, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO t VALUES (1, 'a', 0), (1, 'b', 0)",
        "INSERT INTO t_b_1 VALUES (2, 'b', 0)",
        "UPDATE t SET v = 1 WHERE part = 'a'",
        "UPDATE t_b SET v = 1 WHERE id = 2",
        "DELETE FROM t_b_1 WHERE id = 2",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"v": 0, "id": 1, "part": "a"}"#,
            r#"insert t {"v": 0, "id": 1, "part": "b"}"#,
            r#"insert t {"v": 0, "id": 2, "part": "b"}"#,
            r#"update t {"v": 1, "id": 1, "part": "a"}"#,
            r#"update t {"v": 1, "id": 2, "part": "b"}"#,
            r#"delete t {"id": 2, "part": "b"}"#,
        ]
    );
    // A row that moves to another partition is another row.
    let moved = fixture.client.messages_of(&["UPDATE t SET part = 'b', id = 5 WHERE part = 'a'"]);
    assert_eq!(
        moved,
        [r#"delete t {"id": 1, "part": "a"}"#, r#"insert t {"v": 1, "id": 5, "part": "b"}"#]
    );
    assert_eq!(fixture.client.messages_of(&["TRUNCATE t"]), ["truncate t"]);
}

fn a_backfill_of_the_root_reads_all_partitions() {
    let mut fixture = Fixture::new("partitions_read", TABLES);
    let client = &mut fixture.client;
    client
        .batch_execute(
            "ALTER TABLE t ATTACH PARTITION other FOR VALUES IN ('c');
             INSERT INTO t SELECT n, 'a', n FROM generate_series(1, 50) n;
             INSERT INTO t SELECT n, 'b', n FROM generate_series(1, 50) n",
        )
        .unwrap();
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    client
        .batch_execute("UPDATE t SET v = v + 1 WHERE id = 1; DELETE FROM t WHERE id = 2")
        .unwrap();
    client.catch_up();
    let reads = "SELECT count(*) FROM sequin_stream.s
                 WHERE data->>'action' = 'read' AND data->'metadata'->>'table' = 't'";
    assert_eq!(client.number(reads), 101);
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
}

fn rows_of_attached_partitions_come_and_of_detached_ones_do_not() {
    let mut fixture = Fixture::capturing("attached", TABLES, &["t"]);
    let got = fixture.client.messages_of(&[
        "INSERT INTO other (id, part, v) VALUES (2, 'c', 0)",
        "ALTER TABLE t ATTACH PARTITION other FOR VALUES IN ('c')",
        "INSERT INTO t VALUES (3, 'c', 0)",
        "UPDATE other SET v = 1 WHERE id = 1",
        "ALTER TABLE t DETACH PARTITION other",
        "INSERT INTO other (id, part, v) VALUES (4, 'c', 0)",
        "CREATE TABLE t_d PARTITION OF t FOR VALUES IN ('d')",
        "INSERT INTO t VALUES (5, 'd', 0)",
    ]);
    assert_eq!(
        got,
        [
            r#"insert t {"v": 0, "id": 3, "part": "c"}"#,
            r#"update t {"v": 1, "id": 1, "part": "c"}"#,
            r#"insert t {"v": 0, "id": 5, "part": "d"}"#,
        ]
    );
}

fn a_partition_alone_is_captured_as_itself() {
    let mut fixture = Fixture::capturing("one_partition", TABLES, &["t_a"]);
    let got = fixture.client.messages_of(&["INSERT INTO t VALUES (1, 'a', 0), (1, 'b', 0)"]);
    assert_eq!(got, [r#"insert t_a {"v": 0, "id": 1, "part": "a"}"#]);
}

const FAMILY: &str = "CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
    CREATE TABLE grandchild (v int, PRIMARY KEY (id)) INHERITS (child);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2); INSERT INTO grandchild VALUES (3, 0)";

/// What CREATE PUBLICATION .. FOR TABLE parent includes.
fn tables_that_inherit_are_captured_as_themselves() {
    let mut fixture = Fixture::new("family", FAMILY);
    let client = &mut fixture.client;
    client.create_source("src", &["parent", "child"], "");
    client.finish_backfills();
    let reads = client.messages_after(0);
    let expected = [
        r#"read child {"id": 2}"#,
        r#"read grandchild {"v": 0, "id": 3}"#,
        r#"read parent {"id": 1}"#,
    ];
    assert_eq!(reads, expected);
    let got = client
        .messages_of(&["INSERT INTO child VALUES (4)", "UPDATE parent SET id = 5 WHERE id = 3"]);
    let expected =
        [r#"insert child {"id": 4}"#, r#"update grandchild {"v": 0, "id": 5} {"id": 3}"#];
    assert_eq!(got, expected);
    let got = client.messages_of(&[
        "SELECT sequin.alter_source('src', tables => '{marker}')",
        "INSERT INTO grandchild VALUES (6)",
        "SELECT sequin.alter_source('src', tables => '{marker,child}')",
        "INSERT INTO parent VALUES (7)",
    ]);
    client.finish_backfills();
    assert!(got.iter().all(|line| line.starts_with("read")), "{got:?}");
    let got = client.messages_of(&["INSERT INTO grandchild VALUES (8)"]);
    assert_eq!(got, [r#"insert grandchild {"v": null, "id": 8}"#]);
}

fn a_table_that_inherits_is_checked_like_one_that_is_named() {
    let mut fixture = Fixture::new("strange_family", FAMILY);
    let client = &mut fixture.client;
    let create = super::fixture::create_source("src", &["parent"], "");
    let without_key = "ALTER TABLE grandchild DROP CONSTRAINT grandchild_pkey";
    client.batch_execute(without_key).unwrap();
    assert_eq!(sqlstate(client.batch_execute(&create)), "55000");
    client.batch_execute("ALTER TABLE grandchild ADD PRIMARY KEY (id)").unwrap();
    let to_another = "ALTER TABLE grandchild OWNER TO pg_monitor; ALTER TABLE child OWNER TO pg_signal_backend;
                      ALTER TABLE parent OWNER TO pg_signal_backend; ALTER TABLE marker OWNER TO pg_signal_backend;
                      GRANT ALL ON sequin_stream.s TO pg_signal_backend; SET ROLE pg_signal_backend";
    client.batch_execute(to_another).unwrap();
    let error = client.batch_execute(&create).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42501", "{error:?}");
    assert!(error.message().contains("grandchild"), "{error:?}");
}
