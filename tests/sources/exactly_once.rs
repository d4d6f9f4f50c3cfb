//! The load of pgbench, replayed.

use std::process::Stdio;

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_each_once, assert_identical, replay};
use crate::calls::Calls;
use crate::cluster::succeed;
use crate::harness::trials;

pub fn tests() -> Vec<Trial> {
    trials![pgbench_under_a_source_replays_to_identical_tables]
}

const SECONDS: u32 = 4;

fn pgbench_under_a_source_replays_to_identical_tables() {
    const TABLES: [&str; 4] =
        ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];
    let mut fixture = Fixture::new("pgbench", "");
    let cluster = fixture.database.cluster;
    let mut initialize = cluster.client_program("pgbench");
    succeed(initialize.args(["--initialize", "--scale=1", "--quiet", &fixture.database.name]));
    let client = &mut fixture.client;
    // It has no key, and is only inserted into.
    client.batch_execute("ALTER TABLE pgbench_history REPLICA IDENTITY FULL").unwrap();
    let mut run = cluster.client_program("pgbench");
    run.args(["--no-vacuum", "--client=2", "--jobs=1", &format!("--time={SECONDS}")]);
    run.arg(&fixture.database.name).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    // In the middle of it.
    client.wait_for("pgbench writes", |client| {
        client.number("SELECT count(*) FROM pgbench_history") > 100
    });
    client.batch_execute("TRUNCATE pgbench_history").unwrap();
    client.create_source("src", &TABLES, "");
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    client.finish_backfills();
    // The rows of the table without a key that were there before the source are not read.
    client.batch_execute("DELETE FROM pgbench_history h
        WHERE NOT EXISTS (SELECT FROM sequin_stream.s
                          WHERE data->'metadata'->>'table' = 'pgbench_history' AND data->'record' = to_jsonb(h))").unwrap();
    client.catch_up();
    replay(client, &TABLES);
    assert_identical(client, &TABLES);
    assert_each_once(client);
}
