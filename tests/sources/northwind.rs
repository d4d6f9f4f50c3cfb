//! Northwind, changed by four clients at random while its rows are read and its changes captured: a reader that applies
//! the messages in order has the same tables. Whatever is killed meanwhile.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use libtest_mimic::Trial;
use postgres::Client;

use super::fixture::{DEADLINE, Fixture, PAUSE, Sources};
use super::replay::{assert_each_once, assert_identical, replay, replay_by_consumer};
use crate::calls::{Calls, millis, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use crate::others::{Done, while_others};
use crate::seed::Seed;
use sequin_testkit::cluster::{Cluster, Database, wait_until};
use sequin_testkit::process::signal;

pub fn tests() -> Vec<Trial> {
    trials![
        replayed_tables_are_identical_after_kills_of_the_server,
        replayed_tables_are_identical_after_kills_of_the_capturer,
        replayed_tables_are_identical,
    ]
}

const CLIENTS: u64 = 4;

/// Not ours to ship; without it, tables of the same shapes do.
const NORTHWIND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/northwind.sql");
const SUBSTITUTE: &str = include_str!("trade.sql");

/// Makes `writer.change()`, which changes a random row of a random table.
const WRITER: &str = include_str!("writer.sql");

/// The tables, and the function that changes them.
pub fn load(fixture: &mut Fixture) -> Vec<String> {
    let northwind = fs::read_to_string(NORTHWIND).unwrap_or_else(|_| SUBSTITUTE.into());
    fixture.client.batch_execute(&northwind).unwrap();
    // It has set more than its tables.
    fixture.reconnect();
    fixture.client.batch_execute(WRITER).unwrap();
    fixture.client.texts("SELECT name FROM writer.tables ORDER BY name")
}

fn replayed_tables_are_identical() {
    let seed = Seed::new();
    let mut fixture = Fixture::new("northwind", "");
    let tables = load(&mut fixture);
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    while_clients_write(&fixture.database, &seed, |_| {
        thread::sleep(millis(100));
        fixture.client.create_source("src", &tables, "");
        thread::sleep(seconds(2));
    });
    fixture.client.finish_backfills();
    replay_by_consumer(&mut fixture.client, &tables);
    assert_identical(&mut fixture.client, &tables);
    assert_each_once(&mut fixture.client);
}

fn replayed_tables_are_identical_after_kills_of_the_server() {
    const KILLS: usize = 10;
    let seed = Seed::new();
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let mut fixture = Fixture::on(&cluster, "northwind_server", "");
    let tables = load(&mut fixture);
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    fixture.client.create_source("src", &tables, "");
    let Fixture { client, database } = &mut fixture;
    while_clients_write(database, &seed, |rng| {
        for kill in 0..KILLS {
            backfill_something(client, rng, &tables);
            thread::sleep(millis(rng.u64(20..400)));
            match client.capturer() {
                // The postmaster then ends all others, and begins anew.
                Some(capturer) if kill % 3 == 2 => {
                    signal("KILL", &[capturer as u32]);
                    wait_until("all are ended", DEADLINE, || {
                        client.batch_execute("SELECT 1").is_err()
                    });
                }
                _ => {
                    cluster.kill_9();
                    cluster.boot();
                }
            }
            wait_until("the server is back", DEADLINE, || {
                cluster.try_connect(&database.name).is_ok()
            });
            *client = database.connect();
        }
    });
    fixture.client.finish_backfills();
    replay(&mut fixture.client, &tables);
    assert_identical(&mut fixture.client, &tables);
    assert_each_once(&mut fixture.client);
}

fn replayed_tables_are_identical_after_kills_of_the_capturer() {
    const KILLS: usize = 20;
    let seed = Seed::new();
    let mut fixture = Fixture::new("northwind_capturer", "");
    let tables = load(&mut fixture);
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let mut killed = HashSet::new();
    while_clients_write(&fixture.database, &seed, |rng| {
        fixture.client.create_source("src", &tables, "");
        while killed.len() < KILLS {
            backfill_something(&mut fixture.client, rng, &tables);
            let capturer = fixture.client.wait_for_capturer();
            thread::sleep(millis(rng.u64(0..150)));
            fixture.client.terminate(capturer);
            killed.insert(capturer);
        }
    });
    fixture.client.finish_backfills();
    replay(&mut fixture.client, &tables);
    assert_identical(&mut fixture.client, &tables);
    assert_each_once(&mut fixture.client);
}

/// So that the kills meet one, too, when the first ones are done.
fn backfill_something(client: &mut Client, rng: &mut Rng, tables: &[&str]) {
    let table = rng.choice(tables).unwrap();
    client.execute(&format!("SELECT sequin.backfill('src', '{table}')"), &[]).unwrap();
}

/// Runs something while clients change random rows; ends them after it.
fn while_clients_write(database: &Database, seed: &Seed, act: impl FnOnce(&mut Rng)) {
    let write = |n: u64, done: &Done| {
        let mut rng = seed.rng(n);
        let mut changed = 0;
        while !done.is_set() {
            changed += write_until_it_fails(database, &mut rng, done, Duration::ZERO);
            // Not before the server is back.
            thread::sleep(PAUSE);
        }
        assert!(changed > 0, "a client has changed nothing");
    };
    while_others(CLIENTS, write, || act(&mut seed.rng(0)));
}

/// How many transactions it has committed until the connection breaks, or it is to end. `pause`: before each.
pub fn write_until_it_fails(
    database: &Database,
    rng: &mut Rng,
    done: &Done,
    pause: Duration,
) -> usize {
    let Ok(mut client) = database.cluster.try_connect(&database.name) else { return 0 };
    let prepare = format!("SET deadlock_timeout = '20 ms'; SELECT setseed({})", rng.f64());
    let mut committed = 0;
    if client.batch_execute(&prepare).is_err() {
        return 0;
    }
    while !done.is_set() {
        thread::sleep(pause);
        match client.batch_execute(&random_transaction(rng)) {
            Ok(()) => committed += 1,
            Err(error) if error.code().is_some_and(|code| code.code() == "40P01") => {
                if client.batch_execute("ROLLBACK").is_err() {
                    break;
                }
            }
            // Killed, with the server; or a server that isn't up yet.
            Err(error) => {
                let class = error.code().map(|code| &code.code()[..2]);
                assert!(matches!(class, None | Some("57" | "08")), "{error:?}");
                break;
            }
        }
    }
    committed
}

fn random_transaction(rng: &mut Rng) -> String {
    const CHANGE: &str = "SELECT writer.change();";
    let some = |rng: &mut Rng| CHANGE.repeat(rng.usize(1..5));
    let mut statements = format!("BEGIN;{}", some(rng));
    if rng.u8(0..4) == 0 {
        let end = rng.choice(["ROLLBACK TO", "RELEASE"]).unwrap();
        statements.push_str(&format!("SAVEPOINT a;{}{end} a;{}", some(rng), some(rng)));
    }
    statements.push_str(if rng.u8(0..10) == 0 { "ROLLBACK" } else { "COMMIT" });
    statements
}
