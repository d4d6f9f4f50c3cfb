//! What is committed of a consumer's settings holds for whoever asks next, however busy the dispatcher is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, ack_ids, millis, seqs, sqlstate};
use crate::harness::{database, trials};
use sequin_testkit::cluster::Database;

pub fn tests() -> Vec<Trial> {
    trials![
        a_consumer_can_be_used_as_soon_as_it_is_committed,
        a_rewind_holds_as_soon_as_it_is_committed,
        a_misspelt_setting_is_refused,
    ]
}

const ROUNDS: usize = 300;

/// Runs rounds while others change settings all the time, which keeps the dispatcher reading them.
fn while_settings_change(database: &Database, mut round: impl FnMut(&mut Client, usize) + Send) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let change = |name: &'static str| {
            let mut client = database.connect();
            while !done.load(Ordering::SeqCst) {
                client.create_consumer("s", name, "");
                client.batch_execute(&format!("SELECT sequin.drop_consumer('{name}')")).unwrap();
            }
        };
        let changing = ["one", "two"].map(|name| scope.spawn(move || change(name)));
        let mut client = database.connect();
        let rounds = scope.spawn(move || (0..ROUNDS).for_each(|n| round(&mut client, n)));
        let result = rounds.join();
        done.store(true, Ordering::SeqCst);
        changing.into_iter().for_each(|changing| changing.join().unwrap());
        assert!(result.is_ok(), "see above");
    });
}

fn a_consumer_can_be_used_as_soon_as_it_is_committed() {
    let database = database("settings_new");
    let mut client = database.connect();
    client.execute("SELECT sequin.create_stream('s')", &[]).unwrap();
    let seq = client.publish("s", "a", "1");
    while_settings_change(&database, |client, round| {
        client.create_consumer("s", "c", "");
        let held = client.receive("c", 1, millis(0));
        assert_eq!(seqs(&held), [seq], "round {round}");
        assert_eq!(client.ack("c", &ack_ids(&held)), 1, "round {round}");
        client.batch_execute("SELECT sequin.drop_consumer('c')").unwrap();
        assert_eq!(sqlstate(client.try_receive("c", 1, millis(0))), "42704", "round {round}");
    });
}

fn a_rewind_holds_as_soon_as_it_is_committed() {
    let database = database("settings_rewind");
    let mut client = database.connect();
    client.create("s", "c", "");
    let seq = client.publish("s", "a", "1");
    while_settings_change(&database, |client, round| {
        let old = client.receive("c", 1, millis(0));
        assert_eq!(seqs(&old), [seq], "round {round}");
        client.batch_execute("SELECT sequin.rewind('c')").unwrap();
        assert_eq!(client.ack("c", &ack_ids(&old)), 0, "an old ack_id counts, round {round}");
        let new = client.receive("c", 1, millis(0));
        assert_eq!(seqs(&new), [seq], "round {round}");
        assert_eq!(client.ack("c", &ack_ids(&new)), 1, "round {round}");
        client.batch_execute("SELECT sequin.rewind('c')").unwrap();
    });
}

fn a_misspelt_setting_is_refused() {
    const INVALID_NAME: &str = "42602";
    let database = database("misspelt");
    let mut client = database.connect();
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]);
    let set = client.batch_execute("SET sequin.max_database = 3");
    // Before, PostgreSQL can only warn of what it finds when the library is loaded.
    if version.unwrap().get::<_, i32>(0) >= 150_000 {
        assert_eq!(sqlstate(set), INVALID_NAME);
    }
}
