//! A record is what to_jsonb says of the row, for every type.

use libtest_mimic::Trial;
use postgres::Client;

use super::columns::{COLUMNS, Column};
use super::fixture::{Fixture, Sources};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![
        records_equal_to_jsonb_of_the_row_for_every_type,
        records_do_not_depend_on_settings_of_the_database,
    ]
}

const TYPES: &str = include_str!("types.sql");

/// Half of the random rows are there before the source is.
const ROWS: usize = 1000;

/// Table `every`, with the columns whose types are to be had here.
fn create_table(client: &mut Client) -> Vec<&'static Column> {
    client.batch_execute(TYPES).unwrap();
    let mut is_there = |column: &&Column| {
        let Some(extension) = column.extension else { return true };
        client.batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS {extension}")).is_ok()
    };
    let columns: Vec<&Column> = COLUMNS.iter().filter(&mut is_there).collect();
    let definitions: Vec<String> = columns
        .iter()
        .map(|column| format!("{} {}", quoted(column.name), column.type_name))
        .collect();
    // Rows of random size: a value that is stored out of line would not be in the record of an update of another one.
    // What is expected is noted: id, action, the record, and what the row was before.
    client
        .batch_execute(&format!(
            "CREATE TABLE every (id int PRIMARY KEY, {}) WITH (toast_tuple_target = 8160);
             CREATE TABLE expected (ordinal bigserial, id int, action text, record jsonb, old jsonb)",
            definitions.join(", ")
        ))
        .unwrap();
    columns
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A random value: NULL, one of the column's texts, or a random one.
fn value(column: &Column) -> String {
    let texts: Vec<String> =
        column.texts.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
    let texts = format!(
        "(ARRAY[{}])[1 + floor(random() * {} + n * 0)]::{}",
        texts.join(", "),
        texts.len(),
        column.type_name
    );
    let random =
        column.random.map_or(texts.clone(), |random| format!("({random})::{}", column.type_name));
    format!(
        "CASE floor(random() * 10 + n * 0) WHEN 0 THEN NULL WHEN 1 THEN {random} WHEN 2 THEN {random}
         WHEN 3 THEN {random} ELSE {texts} END"
    )
}

fn insert(client: &mut Client, columns: &[&Column], from: usize, to: usize, action: &str) {
    let values: Vec<String> = columns.iter().map(|column| value(column)).collect();
    client
        .batch_execute(&format!(
            "WITH i AS (INSERT INTO every SELECT n, {} FROM generate_series({from}, {to}) n RETURNING every)
             INSERT INTO expected (id, action, record) SELECT (every).id, '{action}', to_jsonb(every) FROM i",
            values.join(", ")
        ))
        .unwrap();
}

/// Sets some columns anew in each row.
fn update(client: &mut Client, columns: &[&Column]) {
    for some in columns.chunks(columns.len() / 4 + 1) {
        let sets: Vec<String> = some
            .iter()
            .map(|column| format!("{} = {}", quoted(column.name), value(column)))
            .collect();
        client
            .batch_execute(&format!(
                "WITH u AS (UPDATE every SET {} FROM (SELECT every AS old, id AS n FROM every) o WHERE id = n
                            RETURNING id, old, every AS new)
                 INSERT INTO expected (id, action, record, old)
                 SELECT id, 'update', to_jsonb(new), to_jsonb(old) FROM u",
                sets.join(", ")
            ))
            .unwrap();
    }
}

/// Those that differ, by column, with the values.
fn differences(client: &mut Client) -> Vec<String> {
    client.texts(
        "WITH got AS (SELECT (data->'record'->>'id')::int AS id, data->>'action' AS action,
                             data->'record' AS record,
                             row_number() OVER (PARTITION BY data->'record'->>'id', data->>'action' ORDER BY seq) AS n
                      FROM sequin_stream.s WHERE data->'metadata'->>'table' = 'every'),
              wanted AS (SELECT *, row_number() OVER (PARTITION BY id, action ORDER BY ordinal) AS n FROM expected),
              different AS MATERIALIZED (
                  SELECT action, w.record AS wanted, g.record AS got
                  FROM wanted w FULL JOIN got g USING (id, action, n)
                  WHERE w.record::text IS DISTINCT FROM g.record::text LIMIT 10)
         SELECT concat_ws(' ', action, key, 'is', coalesce(got->key, got)::text, 'not',
                          coalesce(wanted->key, wanted)::text)
         FROM different
         LEFT JOIN LATERAL (SELECT jsonb_object_keys(wanted || got) AS key) k ON true
         WHERE (wanted->key)::text IS DISTINCT FROM (got->key)::text OR key IS NULL
         LIMIT 20",
    )
}

/// Updates whose changes are not the old values of what is another value now. A value may be another one and have the
/// same JSON (the bounds of an array): then its old one may be among them.
fn wrong_changes(client: &mut Client) -> Vec<String> {
    client.texts(
        "WITH got AS (SELECT (data->'record'->>'id')::int AS id, data->'changes' AS changes,
                             row_number() OVER (PARTITION BY data->'record'->>'id' ORDER BY seq) AS n
                      FROM sequin_stream.s
                      WHERE data->'metadata'->>'table' = 'every' AND data->>'action' = 'update'),
              wanted AS (SELECT *, row_number() OVER (PARTITION BY id ORDER BY ordinal) AS n
                         FROM expected WHERE action = 'update')
         SELECT concat_ws(' ', id, 'changes are', changes, 'not', changed)
         FROM wanted JOIN got USING (id, n)
         CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(key, o.value), '{}') AS changed
                             FROM jsonb_each(old) o JOIN jsonb_each(record) r USING (key)
                             WHERE o.value::text <> r.value::text) c
         WHERE (old || changes)::text <> old::text OR (changes || changed)::text <> changes::text
         LIMIT 3",
    )
}

fn records_equal_to_jsonb_of_the_row_for_every_type() {
    let mut fixture = Fixture::new("types", "");
    let client = &mut fixture.client;
    let columns = create_table(client);
    insert(client, &columns, 1, ROWS / 2, "read");
    client.create_source("src", &["every"], "");
    client.finish_backfills();
    insert(client, &columns, ROWS / 2 + 1, ROWS, "insert");
    update(client, &columns);
    client.catch_up();
    assert_eq!(differences(client), [""; 0]);

    // From here on, old rows are known.
    client.batch_execute("ALTER TABLE every REPLICA IDENTITY FULL; TRUNCATE expected").unwrap();
    let before = client.last_seq();
    update(client, &columns);
    client
        .batch_execute(
            "WITH d AS (DELETE FROM every WHERE id % 3 = 0 RETURNING every)
             INSERT INTO expected (id, action, record) SELECT (every).id, 'delete', to_jsonb(every) FROM d",
        )
        .unwrap();
    client.catch_up();
    let older = format!("DELETE FROM sequin_stream.s WHERE seq <= {before}");
    client.batch_execute(&older).unwrap();
    assert_eq!(differences(client), [""; 0]);
    assert_eq!(wrong_changes(client), [""; 0]);
}

/// Types whose text, and so their JSON, depends on settings, are as with the defaults; the time zone is the database's.
fn records_do_not_depend_on_settings_of_the_database() {
    let mut fixture = Fixture::new("settings_of_types", "");
    let client = &mut fixture.client;
    let columns = create_table(client);
    client
        .batch_execute(
            "ALTER DATABASE settings_of_types SET DateStyle = 'German, DMY';
             ALTER DATABASE settings_of_types SET IntervalStyle = 'sql_standard';
             ALTER DATABASE settings_of_types SET extra_float_digits = -3;
             ALTER DATABASE settings_of_types SET bytea_output = 'escape';
             ALTER DATABASE settings_of_types SET TimeZone = 'Asia/Kathmandu';
             ALTER DATABASE settings_of_types SET search_path = 'pg_catalog';
             SET TimeZone = 'Asia/Kathmandu'",
        )
        .unwrap();
    insert(client, &columns, 1, 100, "read");
    client.create_source("src", &["every"], "");
    client.finish_backfills();
    insert(client, &columns, 101, 200, "insert");
    client.catch_up();
    assert_eq!(differences(client), [""; 0]);
}
