//! Transactions that are larger than the memory for decoding, and open at the same time.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_each_once, assert_identical, replay};
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![large_transactions_side_by_side_come_in_the_order_of_their_commits]
}

/// With what the capturer takes for decoding, some of these are streamed or spilled, and some are not.
const ROWS: usize = 40_000;

fn large_transactions_side_by_side_come_in_the_order_of_their_commits() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text, w int)";
    let mut fixture = Fixture::capturing("side_by_side", table, &["t"]);
    let mut clients = [(); 3].map(|()| fixture.database.connect());
    let insert = |of: usize, part: usize, rows: usize| {
        let from = (of * 10 + part) * ROWS;
        format!(
            "INSERT INTO t (id, v) SELECT {from} + n, repeat('v{of}', 100) FROM generate_series(1, {rows}) n"
        )
    };
    for client in &mut clients {
        client.batch_execute("BEGIN").unwrap();
    }
    for part in 0..3 {
        for (of, client) in clients.iter_mut().enumerate() {
            client.batch_execute(&format!("SAVEPOINT a; {}", insert(of, part, ROWS / 2))).unwrap();
            match (of + part) % 3 {
                0 => client.batch_execute("ROLLBACK TO a").unwrap(),
                1 => client.batch_execute("RELEASE a").unwrap(),
                _ => client
                    .batch_execute(&format!(
                        "SAVEPOINT b; {}; ROLLBACK TO b",
                        insert(of, part + 5, 1000)
                    ))
                    .unwrap(),
            }
            client
                .batch_execute(&format!(
                    "UPDATE t SET w = {part} WHERE id % 4 = 0 AND v LIKE 'v{of}%'"
                ))
                .unwrap();
        }
    }
    // A small one in between comes first.
    fixture.client.batch_execute("INSERT INTO t (id, w) VALUES (-1, 0)").unwrap();
    clients[1].batch_execute("COMMIT").unwrap();
    clients[2].batch_execute("ROLLBACK").unwrap();
    clients[0].batch_execute("DELETE FROM t WHERE id % 100 = 1; COMMIT").unwrap();
    let client = &mut fixture.client;
    client.catch_up();
    assert_each_once(client);
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    let first = "SELECT data->'record'->>'id' FROM sequin_stream.s ORDER BY seq LIMIT 1";
    assert_eq!(client.text(first), "-1");
}
