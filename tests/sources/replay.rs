//! The reader that a source is for: applies a stream's messages in order to copies of the tables.

use std::collections::HashMap;

use postgres::Client;

use super::fixture::Sources;
use crate::calls::{Calls, ack_ids, millis};

/// Replays stream s into fresh copies, in schema `replayed`, of these tables of schema public.
pub fn replay(client: &mut Client, tables: &[&str]) {
    prepare(client, tables);
    client
        .batch_execute(
            "DO $$
             DECLARE message jsonb;
             BEGIN
                 FOR message IN SELECT data FROM sequin_stream.s ORDER BY seq LOOP
                     PERFORM replayed.apply(message);
                 END LOOP;
             END $$",
        )
        .unwrap();
}

/// The same by a consumer of the stream, which acks what it has applied in the transaction that applies it. One that
/// keeps the order of each key only would not do: a row can get another key.
pub fn replay_by_consumer(client: &mut Client, tables: &[&str]) {
    prepare(client, tables);
    client.create_consumer("s", "replayer", "ordered => false");
    let mut last = 0;
    let mut left = client.number("SELECT count(*) FROM sequin_stream.s");
    while left > 0 {
        let mut transaction = client.transaction().unwrap();
        let batch = transaction.receive("replayer", 1000, millis(10_000));
        assert!(!batch.is_empty(), "{left} messages do not come");
        assert!(batch[0].seq > last && batch.is_sorted_by_key(|delivery| delivery.seq));
        last = batch[batch.len() - 1].seq;
        let messages: Vec<&str> = batch.iter().map(|delivery| delivery.data.as_str()).collect();
        let apply = "SELECT count(replayed.apply(data::jsonb))
                     FROM unnest($1::text[]) WITH ORDINALITY m (data, n)";
        transaction.execute(apply, &[&messages]).unwrap();
        assert_eq!(transaction.ack("replayer", &ack_ids(&batch)), batch.len() as i32);
        transaction.commit().unwrap();
        left -= batch.len() as i64;
    }
}

/// Makes the copies, and the function that applies a message to them.
fn prepare(client: &mut Client, tables: &[&str]) {
    let mut branches = String::new();
    client.batch_execute("CREATE SCHEMA replayed").unwrap();
    for table in tables {
        let copy = format!(
            "CREATE TABLE replayed.{table} (LIKE public.{table} INCLUDING INDEXES)
             WITH (autovacuum_enabled = off)"
        );
        client.batch_execute(&copy).unwrap();
        branches.push_str(&format!("WHEN '{table}' THEN {}\n", branch(client, table)));
    }
    let function = format!(
        "CREATE FUNCTION replayed.apply(message jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
         DECLARE
             action text := message->>'action';
             new jsonb := message->'record';
             -- The row as it was, as far as the message tells.
             old jsonb := new || coalesce(nullif(message->'changes', 'null'), '{{}}');
         BEGIN
             CASE message->'metadata'->>'table'
             {branches}
             ELSE
             END CASE;
             RETURN true;
         END $$"
    );
    client.batch_execute(&function).unwrap();
}

/// A row is found by its key as it was. What a record lacks (`metadata.unchanged`) keeps its value.
fn branch(client: &mut Client, table: &str) -> String {
    let columns = client.texts(&format!(
        "SELECT quote_ident(attname) FROM pg_attribute
         WHERE attrelid = 'public.{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    ));
    let columns = columns.join(", ");
    let key = client.texts(&format!(
        "SELECT quote_ident(attname) FROM pg_index
         JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
         WHERE indrelid = 'public.{table}'::regclass AND indisprimary"
    ));
    let of = |alias: &str| {
        key.iter().map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
    };
    let (from, found) = match key.is_empty() {
        // One of those that are equal.
        true => (
            String::new(),
            format!(
                "c.ctid = (SELECT d.ctid FROM replayed.{table} d WHERE to_jsonb(d) = old LIMIT 1)"
            ),
        ),
        false => (
            format!("jsonb_populate_record(NULL::replayed.{table}, old) k"),
            format!("({}) = ({})", of("c"), of("k")),
        ),
    };
    let clause = |word: &str| match from.is_empty() {
        true => String::new(),
        false => format!("{word} {from}"),
    };
    // A row without a key can't be there already when it is inserted.
    let is_there = if key.is_empty() { "action = 'update'" } else { "true" };
    format!(
        "IF action = 'truncate' THEN
             DELETE FROM replayed.{table};
         ELSIF action = 'delete' THEN
             DELETE FROM replayed.{table} c {} WHERE {found};
         ELSE
             UPDATE replayed.{table} c
             SET ({columns}) = (SELECT {columns} FROM jsonb_populate_record(c, new))
             {} WHERE {is_there} AND {found};
             IF NOT FOUND THEN
                 INSERT INTO replayed.{table}
                 SELECT * FROM jsonb_populate_record(NULL::replayed.{table}, new);
             END IF;
         END IF;",
        clause("USING"),
        clause("FROM"),
    )
}

/// The copies are what the tables are.
#[track_caller]
pub fn assert_identical(client: &mut Client, tables: &[&str]) {
    let rows = |schema: &str, table: &str| {
        format!("SELECT to_jsonb(t)::text AS line FROM {schema}.{table} t")
    };
    let mut differences = HashMap::new();
    for table in tables {
        let (is, copy) = (rows("public", table), rows("replayed", table));
        let lines = client.texts(&format!(
            "(SELECT 'lacks ' || line FROM ({is} EXCEPT ALL {copy}) d LIMIT 3) UNION ALL
             (SELECT 'has ' || line FROM ({copy} EXCEPT ALL {is}) d LIMIT 3)"
        ));
        if !lines.is_empty() {
            differences.insert(table, lines);
        }
    }
    assert!(differences.is_empty(), "the replayed tables differ: {differences:#?}");
}

/// Every change is one message: none twice, none missing, in the order of the commits.
#[track_caller]
pub fn assert_each_once(client: &mut Client) {
    let position = "data->'metadata'->>'commit_lsn', data->'metadata'->>'index'";
    let twice = client.texts(&format!(
        "SELECT concat_ws(' ', {position}, string_agg(concat_ws(' ', seq, data->>'action', key, data->'metadata'->>'commit_time'), ', '))
         FROM sequin_stream.s
         GROUP BY {position} HAVING count(*) > 1 OR concat_ws(' ', {position}) !~ ' ' LIMIT 5"
    ));
    assert!(twice.is_empty(), "the same change twice: {twice:?}");
    let missing = client.texts(
        "SELECT concat_ws(' ', lsn, min(index), max(index), count(*))
         FROM (SELECT data->'metadata'->>'commit_lsn' AS lsn,
                      (data->'metadata'->>'index')::bigint AS index
               FROM sequin_stream.s WHERE data->>'action' <> 'read') s
         GROUP BY lsn HAVING min(index) <> 0 OR max(index) <> count(*) - 1 LIMIT 5",
    );
    assert!(missing.is_empty(), "not all of a transaction: {missing:?}");
    let disorder = client.texts(
        "SELECT seq::text
         FROM (SELECT seq, lsn, index, lag(lsn) OVER s AS lsn_before, lag(index) OVER s AS index_before
               FROM (SELECT seq, (data->'metadata'->>'commit_lsn')::pg_lsn AS lsn,
                            (data->'metadata'->>'index')::bigint AS index
                     FROM sequin_stream.s WHERE data->>'action' <> 'read') m
               WINDOW s AS (ORDER BY seq)) m
         WHERE (lsn, index) <= (lsn_before, index_before) LIMIT 5",
    );
    assert!(disorder.is_empty(), "not in the order of the commits: {disorder:?}");
}
