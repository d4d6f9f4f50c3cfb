//! Databases whose sessions begin as another role than the one that connects: workers are superuser all the same.

use libtest_mimic::Trial;

use crate::calls::{Calls, ack_ids, seconds};
use crate::harness::{database_of, logical_cluster, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        workers_take_no_role_from_their_database,
        workers_take_no_session_authorization_from_their_database,
    ]
}

fn workers_take_no_role_from_their_database() {
    workers_take_none("role");
}

fn workers_take_no_session_authorization_from_their_database() {
    workers_take_none("session_authorization");
}

fn workers_take_none(setting: &str) {
    let name = format!("begins_with_{setting}");
    let database = database_of(logical_cluster(), &name);
    let mut client = database.connect();
    client.create("s", "c", "");
    client
        .batch_execute(&format!(
            "CREATE ROLE other_{setting};
             CREATE TABLE t (id int PRIMARY KEY);
             ALTER DATABASE {name} SET {setting} = other_{setting}"
        ))
        .unwrap();
    client.restart_dispatcher();
    client
        .batch_execute("SELECT sequin.create_source('src', 's', '{t}', backfill => false)")
        .unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").unwrap();
    let held = client.receive("c", 1, seconds(30));
    assert_eq!(held.len(), 1, "the change is captured and delivered");
    // What the journals are written with, too.
    assert_eq!(client.ack("c", &ack_ids(&held)), 1);
    client.restart_dispatcher();
    client.batch_execute("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(client.receive("c", 10, seconds(30)).len(), 1);
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    wait_until("the slot is gone", seconds(30), || {
        client
            .number("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
            == 0
    });
    client
        .batch_execute(&format!("ALTER DATABASE {name} RESET {setting}; DROP ROLE other_{setting}"))
        .unwrap();
}
