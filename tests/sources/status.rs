//! The status of a source is what a person would conclude who looks at what is captured.

use libtest_mimic::Trial;
use postgres::Client;

use super::fixture::{Fixture, Sources};
use crate::calls::Calls;
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        a_table_that_was_swapped_is_told_and_mended,
        a_swapped_table_of_a_publication_of_ones_own_is_told_and_mended,
        a_source_that_captures_nothing_does_not_say_streaming,
        a_publication_of_all_tables_takes_a_swapped_one_in,
        a_source_that_cannot_write_does_not_say_streaming,
        retained_bytes_count_what_an_open_transaction_keeps,
    ]
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)";

const SWAP: &str = "CREATE TABLE new (LIKE t INCLUDING ALL); INSERT INTO new VALUES (7);
                    DROP TABLE t; ALTER TABLE new RENAME TO t";

/// Waits until a source is said to have failed, with these words, mends it, and waits until it streams.
fn failed_until(client: &mut Client, words: &[&str], mend: &str) {
    let error = client.wait_for_status("src", "failed");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    client.batch_execute(mend).unwrap();
    client.finish_backfills();
    assert_eq!(client.wait_for_status("src", "streaming"), "");
}

fn a_table_that_was_swapped_is_told_and_mended() {
    let mut fixture = Fixture::new("swapped", TABLES);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    client.batch_execute(SWAP).unwrap();
    let mend = "SELECT sequin.alter_source('src', tables => '{t,marker}')";
    failed_until(client, &["public.t", "sequin.alter_source('src'"], mend);
    client.batch_execute("INSERT INTO t VALUES (8)").unwrap();
    assert_eq!(client.messages_after(0), [r#"read t {"id": 7}"#, r#"insert t {"id": 8}"#]);
    // One that is renamed is captured on, and one that is dropped for good is missed by nobody.
    client.batch_execute("ALTER TABLE t RENAME TO v").unwrap();
    assert_eq!(client.messages_of(&["INSERT INTO v VALUES (9)"]), [r#"insert v {"id": 9}"#]);
    client.batch_execute("CREATE TABLE t (id int)").unwrap();
    assert_eq!(client.status("src"), ("streaming".into(), String::new()));
    client.batch_execute("DROP TABLE v, t").unwrap();
    assert_eq!(client.status("src"), ("streaming".into(), String::new()));
}

fn a_swapped_table_of_a_publication_of_ones_own_is_told_and_mended() {
    let tables = format!("{TABLES}; CREATE PUBLICATION p FOR TABLE t, u, marker");
    let mut fixture = Fixture::new("swapped_own", &tables);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    client.finish_backfills();
    client.batch_execute(SWAP).unwrap();
    let words = ["public.t", "ALTER PUBLICATION \"p\" ADD TABLE public.t", "resume_source('src')"];
    failed_until(client, &words, "ALTER PUBLICATION p ADD TABLE t");
    client.batch_execute("DROP TABLE u; CREATE TABLE u (id int)").unwrap();
    failed_until(client, &["public.u"], "SELECT sequin.resume_source('src')");
}

fn a_source_that_captures_nothing_does_not_say_streaming() {
    let tables = format!("{TABLES}; CREATE PUBLICATION p FOR TABLE t, marker");
    let mut fixture = Fixture::new("captures_nothing", &tables);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    client.finish_backfills();
    for (statement, words, mend) in [
        (
            "ALTER PUBLICATION p DROP TABLE t, marker",
            ["has no tables", "ALTER PUBLICATION \"p\" ADD TABLE"],
            "ALTER PUBLICATION p ADD TABLE t, marker",
        ),
        (
            "ALTER PUBLICATION p SET (publish = '')",
            ["publishes nothing", "ALTER PUBLICATION \"p\" SET"],
            "ALTER PUBLICATION p SET (publish = 'insert')",
        ),
        (
            "ALTER TABLE sequin_stream.s SET SCHEMA public",
            ["stream \"s\"", "table"],
            "ALTER TABLE s SET SCHEMA sequin_stream",
        ),
        (
            "UPDATE sequin.sources SET owner = 'pg_monitor'",
            ["stream \"s\"", "GRANT INSERT"],
            "UPDATE sequin.sources SET owner = current_user::regrole",
        ),
    ] {
        client.batch_execute(statement).unwrap();
        failed_until(client, &words, mend);
    }
    client.batch_execute("DROP PUBLICATION p").unwrap();
    let error = client.wait_for_status("src", "failed");
    assert!(error.contains("publication \"p\"") && error.contains("drop source"), "{error}");
    // Sequin's own, when all of its tables are gone.
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    client.create_source("src", &["t"], "");
    client.finish_backfills();
    client.batch_execute("ALTER TABLE marker RENAME TO old; DROP TABLE old, t").unwrap();
    let mend = "CREATE TABLE marker (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
                SELECT sequin.alter_source('src', tables => '{marker}')";
    failed_until(client, &["has no tables", "sequin.alter_source('src'"], mend);
}

fn a_publication_of_all_tables_takes_a_swapped_one_in() {
    let mut fixture = Fixture::new("swapped_all", TABLES);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_source('src', 's')").unwrap();
    client.finish_backfills();
    client.batch_execute(SWAP).unwrap();
    client.catch_up();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (8)"]), [r#"insert t {"id": 8}"#]);
    assert_eq!(client.status("src"), ("streaming".into(), String::new()));
}

/// Whatever keeps it from it.
fn a_source_that_cannot_write_does_not_say_streaming() {
    let mut fixture = Fixture::capturing("cannot_write", TABLES, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1)"]);
    let check = "ALTER TABLE sequin_stream.s ADD CONSTRAINT no CHECK (false) NOT VALID";
    client.batch_execute(check).unwrap();
    client.batch_execute("INSERT INTO t VALUES (2)").unwrap();
    let mend = "ALTER TABLE sequin_stream.s DROP CONSTRAINT no";
    failed_until(client, &["check constraint \"no\""], mend);
}

fn retained_bytes_count_what_an_open_transaction_keeps() {
    const MEGABYTE: i64 = 1 << 20;
    let mut fixture = Fixture::capturing("retained", TABLES, &["t"]);
    let mut other = fixture.database.connect();
    other.batch_execute("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let client = &mut fixture.client;
    client
        .batch_execute(
            "CREATE TABLE large (v text);
             INSERT INTO large SELECT repeat(md5(n::text), 30) FROM generate_series(1, 12000) n",
        )
        .unwrap();
    client.catch_up();
    let stat = |column| format!("SELECT {column} FROM sequin.source_stats");
    client.wait_for("all is captured", |client| client.number(&stat("lag_bytes")) < MEGABYTE);
    let retained = client.number(&stat("retained_bytes"));
    assert!(retained > 10 * MEGABYTE, "{retained} bytes");
    other.batch_execute("COMMIT").unwrap();
    client.catch_up();
}
