//! What a source needs is lost: it says so and how to mend it, others go on, and nothing spins.

use std::thread;

use libtest_mimic::Trial;
use postgres::Client;

use super::fixture::{DEADLINE, Fixture, Sources, create_source};
use super::replay::{assert_identical, replay};
use crate::calls::{Calls, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::{Cluster, wait_until};
use sequin_testkit::process::{signal, stop};

pub fn tests() -> Vec<Trial> {
    trials![
        a_slot_that_has_lost_its_wal_is_told_and_mended,
        a_slot_dropped_by_hand_is_told_and_mended,
        a_publication_dropped_by_hand_is_told,
        a_publication_that_was_dropped_and_made_again_is_told,
        a_stream_dropped_by_hand_is_told,
        a_right_that_is_taken_away_is_told,
        a_backfill_that_cannot_be_written_is_told,
        a_stream_that_is_a_partition_takes_only_what_belongs_into_it,
        a_broken_source_does_not_spin,
    ]
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v int);
                      CREATE TABLE u (id int PRIMARY KEY, v int)";

/// Source `other` on table u, which must go on whatever happens to src.
fn create_other(client: &mut Client) {
    let create = "SELECT sequin.create_stream('o');
                  SELECT sequin.create_source('other', 'o', '{u}', backfill => false)";
    for statement in create.split(';') {
        client.batch_execute(statement).unwrap();
    }
    other_works(client);
}

#[track_caller]
fn other_works(client: &mut Client) {
    let before = client.number("SELECT count(*) FROM sequin_stream.o");
    client.batch_execute("INSERT INTO u SELECT coalesce(max(id), 0) + 1, 0 FROM u").unwrap();
    client.wait_for("the other source goes on", |client| {
        client.number("SELECT count(*) FROM sequin_stream.o") == before + 1
    });
}

/// Starts the source anew, and sees that it does all it did.
fn mend(client: &mut Client) {
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    client.finish_backfills();
    client.wait_for_status("src", "streaming");
    assert_eq!(client.messages_of(&["UPDATE t SET v = v + 1 WHERE id = 1"]).len(), 1);
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    assert_eq!(client.status("src").1, "");
}

fn a_slot_that_has_lost_its_wal_is_told_and_mended() {
    let cluster = Cluster::start_with(&format!(
        "{LOGICAL_DECODING}
         max_slot_wal_keep_size = '16MB'
         min_wal_size = '32MB'
         max_wal_size = '32MB'"
    ));
    let mut fixture = Fixture::on(&cluster, "lost_wal", TABLES);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    client.finish_backfills();
    let capturer = client.wait_for_capturer() as u32;
    // It can't get on, and the server goes on without it.
    stop(capturer);
    let lost =
        "SELECT count(*) FROM pg_replication_slots WHERE wal_status IN ('lost', 'unreserved')";
    for n in 2..8 {
        client
            .batch_execute(&format!("INSERT INTO t VALUES ({n}, {n}); SELECT pg_switch_wal()"))
            .unwrap();
    }
    // The checkpoint ends whoever has the slot, and waits for it.
    thread::scope(|scope| {
        let mut other = fixture.database.connect();
        let checkpoint = scope.spawn(move || other.batch_execute("CHECKPOINT").unwrap());
        wait_until("the slot is to be lost", DEADLINE, || client.number(lost) == 1);
        thread::sleep(seconds(1));
        signal("CONT", &[capturer]);
        checkpoint.join().unwrap();
    });
    let hint = client.wait_for_status("src", "lost");
    assert!(hint.contains("resume_source"), "{hint}");
    mend(client);
    // The old slot keeps nothing any more.
    client.wait_for("only the new slot is there", |client| client.slots().len() == 1);
}

fn a_slot_dropped_by_hand_is_told_and_mended() {
    let mut fixture = Fixture::new("lost_slot", TABLES);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    create_other(client);
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    client.finish_backfills();
    let slot = client.text("SELECT slot FROM sequin.source_stats WHERE source = 'src'");
    let drop = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}';
         SELECT pg_drop_replication_slot('{slot}')"
    );
    client.wait_for("the slot can be dropped", |client| client.batch_execute(&drop).is_ok());
    let hint = client.wait_for_status("src", "lost");
    assert!(hint.contains("resume_source"), "{hint}");
    client.batch_execute("INSERT INTO t VALUES (2, 2); UPDATE t SET v = 3").unwrap();
    other_works(client);
    mend(client);
    other_works(client);
}

fn a_publication_dropped_by_hand_is_told() {
    let tables = format!("{TABLES}; CREATE PUBLICATION p FOR TABLE t, marker");
    let mut fixture = Fixture::new("lost_publication", &tables);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    create_other(client);
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    client.batch_execute("INSERT INTO t VALUES (2, 2); DROP PUBLICATION p").unwrap();
    client.batch_execute("INSERT INTO t VALUES (3, 3)").unwrap();
    let hint = client.wait_for_status("src", "failed");
    assert!(hint.contains("publication \"p\""), "{hint}");
    assert!(hint.contains("drop source") || hint.contains("drop_source"), "{hint}");
    other_works(client);
    // What it says mends it.
    client
        .batch_execute("SELECT sequin.drop_source('src'); CREATE PUBLICATION p FOR TABLE t, marker")
        .unwrap();
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    client.finish_backfills();
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
    other_works(client);
}

/// Changes that nobody could capture were passed over without a word.
fn a_publication_that_was_dropped_and_made_again_is_told() {
    let tables = format!("{TABLES}; CREATE PUBLICATION p FOR TABLE t, marker");
    let mut fixture = Fixture::new("swapped_publication", &tables);
    let client = &mut fixture.client;
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    create_other(client);
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    for statement in [
        "SELECT sequin.pause_source('src')",
        "DROP PUBLICATION p",
        "INSERT INTO t VALUES (2, 2)",
        "CREATE PUBLICATION p FOR TABLE t, marker",
        "INSERT INTO t VALUES (3, 3)",
        "SELECT sequin.resume_source('src')",
    ] {
        client.batch_execute(statement).unwrap();
    }
    let hint = client.wait_for_status("src", "failed");
    assert!(hint.contains("did not exist for a while"), "{hint}");
    other_works(client);
    // It is told again by a capturer that starts anew, and what it says mends it.
    client.batch_execute("SELECT sequin.pause_source('src')").unwrap();
    client.batch_execute("SELECT sequin.resume_source('src')").unwrap();
    let hint = client.wait_for_status("src", "failed");
    assert!(hint.contains("did not exist for a while"), "{hint}");
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    client.batch_execute("SELECT sequin.create_source('src', 's', publication => 'p')").unwrap();
    client.finish_backfills();
    replay(client, &["t"]);
    assert_identical(client, &["t"]);
}

fn a_stream_dropped_by_hand_is_told() {
    let mut fixture = Fixture::new("lost_stream", TABLES);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "");
    create_other(client);
    client.catch_up();
    client.batch_execute("DROP TABLE sequin_stream.s").unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 1)").unwrap();
    client.wait_for("it is told", |client| !client.status("src").1.is_empty());
    other_works(client);
    client.batch_execute("SET statement_timeout = '20 s'").unwrap();
    client.batch_execute("SELECT sequin.drop_stream('s', force => true)").unwrap();
    client.wait_for("only the other's slot is there", |client| client.slots().len() == 1);
    other_works(client);
}

fn a_right_that_is_taken_away_is_told() {
    let mut fixture = Fixture::new("lost_right", TABLES);
    let client = &mut fixture.client;
    client
        .batch_execute(
            "DROP ROLE IF EXISTS lost_right; CREATE ROLE lost_right;
             ALTER TABLE t OWNER TO lost_right; ALTER TABLE marker OWNER TO lost_right;
             GRANT SELECT, INSERT ON sequin_stream.s TO lost_right",
        )
        .unwrap();
    create_other(client);
    client.batch_execute("SET ROLE lost_right").unwrap();
    client.create_source("src", &["t"], "backfill => false");
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(client.messages_of(&["INSERT INTO t VALUES (1, 1)"]).len(), 1);
    client.batch_execute("REVOKE INSERT ON sequin_stream.s FROM lost_right").unwrap();
    client.batch_execute("INSERT INTO t VALUES (2, 2)").unwrap();
    client.wait_for("it is told", |client| !client.status("src").1.is_empty());
    other_works(client);
    client.batch_execute("GRANT INSERT ON sequin_stream.s TO lost_right").unwrap();
    client.catch_up();
    let got = client.messages_after(0);
    assert_eq!(got, [r#"insert t {"v": 1, "id": 1}"#, r#"insert t {"v": 2, "id": 2}"#]);
    client.wait_for("nothing is wrong any more", |client| client.status("src").1.is_empty());
    client.batch_execute("SELECT sequin.drop_source('src'); DROP OWNED BY lost_right").unwrap();
}

fn a_backfill_that_cannot_be_written_is_told() {
    let mut fixture = Fixture::new("unwritable", TABLES);
    let client = &mut fixture.client;
    client
        .batch_execute(
            "INSERT INTO t VALUES (1, 1);
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'refused here'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .unwrap();
    client.create_source("src", &["t"], "");
    client.wait_for("it is told", |client| client.status("src").1.contains("refused here"));
    client.batch_execute("DROP TRIGGER refuse ON sequin_stream.s").unwrap();
    client.finish_backfills();
    assert_eq!(client.messages_after(0), [r#"read t {"v": 1, "id": 1}"#]);
    client.wait_for("nothing is wrong any more", |client| client.status("src").1.is_empty());
}

/// What is appended without the executor is held to what the executor would look at.
fn a_stream_that_is_a_partition_takes_only_what_belongs_into_it() {
    let mut fixture = Fixture::new("partition", TABLES);
    let client = &mut fixture.client;
    let attach = "CREATE TABLE whole (LIKE sequin_stream.s) PARTITION BY LIST (key);
                  ALTER TABLE whole ATTACH PARTITION sequin_stream.s FOR VALUES IN ('nothing')";
    if client.batch_execute(attach).is_err() {
        return; // From PostgreSQL 17 on a table with an identity column can't be one.
    }
    client.create_source("src", &["t"], "backfill => false");
    client.batch_execute("INSERT INTO t VALUES (1, 1)").unwrap();
    client.wait_for("it is told", |client| client.status("src").1.contains("partition"));
    assert_eq!(client.last_seq(), 0);
    client.batch_execute("ALTER TABLE whole DETACH PARTITION sequin_stream.s").unwrap();
    client.catch_up();
    assert_eq!(client.messages_after(0), [r#"insert t {"v": 1, "id": 1}"#]);
}

/// A few attempts in a second, not hundreds.
fn a_broken_source_does_not_spin() {
    let tables = format!("{TABLES}; CREATE PUBLICATION p FOR TABLE t, marker");
    let mut fixture = Fixture::new("broken", &tables);
    let client = &mut fixture.client;
    // Named as no other on this cluster: the log of a worker does not say which database it is of.
    let create =
        "SELECT sequin.create_source('spinning', 's', publication => 'p', backfill => false)";
    client.batch_execute(create).unwrap();
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    client.batch_execute("DROP PUBLICATION p; INSERT INTO t VALUES (2, 2)").unwrap();
    client.wait_for_status("spinning", "failed");
    let log = || std::fs::read_to_string(fixture.database.cluster.log()).unwrap();
    let lines = || log().lines().filter(|line| line.contains("\"spinning\"")).count();
    client.wait_for("what is counted is in the log", |_| lines() > 0);
    let before = lines();
    thread::sleep(seconds(2));
    let more = lines() - before;
    assert!(more < 20, "{more} lines in the log in 2 s");
    // Its capturer is not the only one that may not be started.
    client.batch_execute(&create_source("good", &["u"], "backfill => false")).unwrap();
    client.catch_up();
}
