//! Dumps that are made in the middle of a load, restored where xids are lower; and pg_upgrade.

use std::collections::HashSet;

use libtest_mimic::Trial;
use postgres::Client;

use super::load::{self, CONSUMERS, Known, SMALL};
use crate::calls::{Calls, ack_ids, millis, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::{Cluster, Database};
use sequin_testkit::process::succeed;

pub fn tests() -> Vec<Trial> {
    trials![a_dump_under_load_restores_to_the_acks_of_its_moment]
}

/// What must be processed before and after the dump.
const SOME: usize = 200;

/// How a dump is written, and how it is read. In parallel, the journals may come before what they are about.
const FORMATS: [(&str, &[&str], &[&str]); 3] = [
    ("custom", &["--format=custom"], &["--single-transaction"]),
    ("directory", &["--format=directory", "--jobs=2"], &["--jobs=3"]),
    ("archive", &["--format=tar"], &[]),
];

/// What a database holds at one moment: the messages, and what each consumer has acked.
#[derive(Debug, PartialEq)]
struct State {
    published: HashSet<i64>,
    processed: [HashSet<i64>; 2],
}

fn state(client: &mut Client) -> State {
    let processed = CONSUMERS.map(|consumer| load::processed(client, consumer));
    State { published: load::published(client), processed }
}

fn a_dump_under_load_restores_to_the_acks_of_its_moment() {
    let (cluster, fresh) = (Cluster::start_with(LOGICAL_DECODING), Cluster::start());
    let database = cluster.database("dumped");
    let mut client = database.connect();
    load::prepare(&mut client);
    all_else(&mut client);
    let directory = cluster.data().parent().unwrap().to_owned();
    let (dumped, known) = load::during(&database, SMALL, |load| {
        load.wait_for_more(SOME);
        // All dumps are of the same moment, which this transaction sees.
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
        let snapshot: String = client.query_one("SELECT pg_export_snapshot()", &[]).unwrap().get(0);
        let dumped = state(&mut client);
        for (format, write, _) in FORMATS {
            let mut dump = cluster.client_program("pg_dump");
            dump.args(write).arg("--snapshot").arg(&snapshot).arg("--file");
            succeed(dump.arg(directory.join(format)).arg("dumped"));
        }
        client.batch_execute("COMMIT").unwrap();
        load.wait_for_more(SOME);
        dumped
    });
    known.assert_failed_only_with(&[]);
    assert!(dumped.processed.iter().all(|processed| processed.len() >= SOME));
    let ack_ids = Known { ack_ids: known.ack_ids.clone(), ..Known::default() };
    for (format, _, read) in FORMATS {
        let restored = fresh.database_without_extension(format);
        burn_xids(&mut client, &mut restored.connect());
        let mut restore = fresh.client_program("pg_restore");
        restore.args(read).arg("--dbname").arg(format);
        succeed(restore.arg(directory.join(format)));
        goes_on(&restored, &dumped, &ack_ids);
    }
    // Where it came from, nothing has happened.
    load::settle(&mut client, &known);
}

/// What refers to something else in sequin's tables: dead letters of a consumer, and a source.
fn all_else(client: &mut Client) {
    client.create("t", "d", "");
    client.publish_numbers("t", 10, 10);
    let held = client.receive("d", 10, seconds(10));
    let reject = "SELECT sequin.reject('d', $1)";
    assert_eq!(client.query_one(reject, &[&ack_ids(&held)]).unwrap().get::<_, i32>(0), 10);
    client.batch_execute("CREATE TABLE captured (id int PRIMARY KEY)").unwrap();
    client.batch_execute("SELECT sequin.create_source('src', 't', '{captured}')").unwrap();
}

/// Has the first server's xids above the second's.
fn burn_xids(higher: &mut Client, lower: &mut Client) {
    const XID: &str = "SELECT pg_current_xact_id()::text::bigint";
    const MARGIN: i64 = 10_000;
    higher.batch_execute("SET synchronous_commit = off").unwrap();
    while higher.number(XID) <= lower.number(XID) + MARGIN {
        let burn = "DO $$ BEGIN FOR n IN 1..10000 LOOP
                        PERFORM pg_current_xact_id(); COMMIT;
                    END LOOP; END $$";
        higher.batch_execute(burn).unwrap();
    }
}

/// A copy has the messages and acks of its original, and works like it.
fn goes_on(database: &Database, original: &State, known: &Known) {
    let mut client = database.connect();
    assert_eq!(&state(&mut client), original);
    assert_eq!(
        client.number(
            "SELECT count(*) FROM sequin.dead_letters JOIN sequin.consumers ON consumer = name"
        ),
        10
    );
    assert_eq!(client.number("SELECT count(*) FROM sequin.sources"), 1);
    assert_eq!(client.receive("d", 10, millis(300)).len(), 0, "a rejected message came back");
    load::settle(&mut client, known);
    let (_, more) = load::during(database, SMALL, |load| load.wait_for_more(SOME));
    more.assert_failed_only_with(&[]);
    let last = original.published.iter().max().unwrap();
    assert!(more.published.iter().all(|seq| seq > last), "{last} was there already");
    assert!(more.ack_ids.is_disjoint(&known.ack_ids), "an ack_id of the original came again");
    load::settle(&mut client, &more);
}
