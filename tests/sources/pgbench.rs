//! The load of pgbench, replayed.

use libtest_mimic::Trial;

use super::fixture::{Fixture, Sources};
use super::replay::{assert_each_once, assert_identical, replay};
use crate::harness::trials;
use sequin_testkit::process::succeed;

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
    client.create_source("src", &TABLES, "");
    // While the accounts are read.
    let mut run = cluster.client_program("pgbench");
    run.args(["--no-vacuum", "--client=2", "--jobs=1", &format!("--time={SECONDS}")]);
    run.arg(&fixture.database.name);
    succeed(&mut run);
    client.finish_backfills();
    replay(client, &TABLES);
    assert_identical(client, &TABLES);
    assert_each_once(client);
}
