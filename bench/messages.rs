//! The messages that all figures are taken with, and the tables they go to.

use postgres::Client;

/// Keys to draw from, so that messages of one key seldom meet.
pub const KEYS: usize = 100_000;

/// 170 bytes of JSON. A blank behind each colon, or pgbench would take what follows for a variable.
pub const PAYLOAD: &str = concat!(
    r#"{"id": 48213, "type": "order.paid", "customer": "c-1029384", "amount": 129.95, "#,
    r#""currency": "EUR", "items": [{"sku": "A-7741", "count": 2}, {"sku": "B-0093", "count": 1}]}"#
);
const _: () = assert!(PAYLOAD.len() == 170);

/// A table as a stream has it: columns, defaults, indexes.
pub fn create_plain_table(client: &mut Client) {
    client
        .batch_execute(
            "CREATE TABLE plain (
                 seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 key text COLLATE \"C\" NOT NULL,
                 data jsonb NOT NULL,
                 headers jsonb,
                 inserted_at timestamptz NOT NULL DEFAULT clock_timestamp()
             );
             CREATE INDEX ON plain (key)",
        )
        .unwrap();
}

/// A stream, and consumers of all of it.
pub fn create_stream(client: &mut Client, stream: &str, consumers: &[String], settings: &str) {
    client.execute("SELECT sequin.create_stream($1)", &[&stream]).unwrap();
    for consumer in consumers {
        let create = format!("SELECT sequin.create_consumer('{stream}', '{consumer}'{settings})");
        client.batch_execute(&create).unwrap();
    }
}

/// Publishes so many messages in one statement. Their keys are neighbours that start anywhere, and repeat after
/// KEYS messages.
pub fn publish(client: &mut Client, stream: &str, key: &str, count: usize) {
    client
        .execute(
            &format!(
                "INSERT INTO sequin_stream.{stream} (key, data)
                 SELECT '{key}.' || (n + $2::bigint) % {KEYS}, '{PAYLOAD}'
                 FROM generate_series(1, $1::bigint) n"
            ),
            &[&(count as i64), &fastrand::i64(0..KEYS as i64)],
        )
        .unwrap();
}

/// pgbench: a plain INSERT of so many rows.
pub fn insert_script(batch: usize) -> String {
    let rows: Vec<String> = keys(batch).map(|key| format!("({key}, '{PAYLOAD}')")).collect();
    format!("{DRAW_KEY}INSERT INTO plain (key, data) VALUES {};\n", rows.join(", "))
}

/// pgbench: publishes so many messages.
pub fn publish_script(stream: &str, batch: usize) -> String {
    publish_script_with(stream, batch, "")
}

/// pgbench: the same, each with a dedup_id that is new.
pub fn publish_once_script(stream: &str, batch: usize) -> String {
    let ids = match batch {
        1 => ", dedup_id => gen_random_uuid()::text".to_owned(),
        _ => format!(
            ", dedup_ids => ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, {batch}))"
        ),
    };
    publish_script_with(stream, batch, &ids)
}

fn publish_script_with(stream: &str, batch: usize, more: &str) -> String {
    if batch == 1 {
        let key = keys(1).next().unwrap();
        return format!("{DRAW_KEY}SELECT sequin.publish('{stream}', {key}, '{PAYLOAD}'{more});\n");
    }
    let keys = keys(batch).collect::<Vec<_>>().join(", ");
    let data = vec![format!("'{PAYLOAD}'"); batch].join(", ");
    format!(
        "{DRAW_KEY}SELECT * FROM sequin.publish_many('{stream}', ARRAY[{keys}], ARRAY[{data}]::jsonb[]{more});\n"
    )
}

/// pgbench: receives up to so many messages and acks them, in two statements and two transactions.
pub fn receive_script(consumer: &str, batch: usize, wait: &str) -> String {
    format!(
        "SELECT coalesce(array_agg(ack_id), '{{}}') AS ids \
         FROM sequin.receive('{consumer}', {batch}, '{wait}') \\gset\n\
         SELECT sequin.ack('{consumer}', :ids::bigint[]);\n"
    )
}

const DRAW_KEY: &str = "\\set k random(1, 100000)\n";

/// The keys of a batch, as SQL: distinct ones, drawn anew for each batch as far as pgbench can.
fn keys(batch: usize) -> impl Iterator<Item = String> {
    /// It knows no statement with more than 255 arguments.
    const MOST_DRAWN: usize = 250;
    (1..=batch).map(|n| match n {
        ..=MOST_DRAWN => format!("'orders.' || :k || '.{n}'"),
        _ => format!("'orders.{n}'"),
    })
}
