//! A standby with a copy of a source's slot (PostgreSQL 17) is promoted: nothing is lost, and nothing comes twice.

use libtest_mimic::Trial;

use super::fixture::{DEADLINE, Fixture, Sources};
use crate::calls::Calls;
use crate::harness::trials;
use sequin_testkit::cluster::{Cluster, wait_until};
use sequin_testkit::process::{signal, stop};

pub fn tests() -> Vec<Trial> {
    trials![a_change_whose_message_the_standby_has_not_is_captured_after_its_promotion]
}

const SLOT: &str = "SELECT count(*) FROM pg_replication_slots
                    WHERE slot_name LIKE 'sequin%' AND synced AND NOT temporary";

/// Changes, of which all but the first are on the standby without their messages.
const ROUNDS: i64 = 31;

/// The primary dies when the standby has the commit of the change, and not that of the message.
fn a_change_whose_message_the_standby_has_not_is_captured_after_its_promotion() {
    let primary = Cluster::start_with("wal_level = logical");
    let mut admin = primary.connect("postgres");
    if admin.number("SELECT current_setting('server_version_num')::bigint") < 170_000 {
        return; // No standby has a copy of a logical slot.
    }
    let setup = "SELECT pg_create_physical_replication_slot('standby', true)";
    admin.batch_execute(setup).unwrap();
    let standby = primary.standby_with("hot_standby_feedback = on\nprimary_slot_name = 'standby'");
    admin.batch_execute("ALTER SYSTEM SET synchronized_standby_slots = 'standby'").unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut replica = standby.connect("postgres");
    let host = primary.log().parent().unwrap().display().to_string();
    let conninfo = format!("host={host} port=5432 user=postgres dbname=postgres");
    replica.batch_execute(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'")).unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").unwrap();

    let mut fixture =
        Fixture::on(&primary, "failover", "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    client.batch_execute("INSERT INTO t VALUES (1)").unwrap();
    client.catch_up();
    wait_until("the standby has a copy of the slot", DEADLINE, || {
        // Not one transaction more: the slot would need older rows of catalogs than the standby still has.
        client.batch_execute("SELECT pg_log_standby_snapshot()").unwrap();
        // It fails while the standby is behind.
        let _ = replica.batch_execute("SELECT pg_sync_replication_slots()");
        replica.number(SLOT) == 1
    });

    // The change gets to the standby; its message can't be written.
    let mut lock = fixture.database.connect();
    lock.batch_execute("BEGIN; LOCK TABLE sequin_stream.s IN ACCESS EXCLUSIVE MODE").unwrap();
    // Each is a round of the capturer, which writes the messages of the first while it has the others to read.
    for id in 2..=ROUNDS {
        let insert = format!("INSERT INTO t VALUES ({id}, repeat('x', 1300000))");
        client.batch_execute(&insert).unwrap();
    }
    client.wait_for("it can't be written", |client| !client.status("src").1.is_empty());
    // It pauses now. Stopped, it writes no WAL that the standby would not get.
    let capturer = [client.wait_for_capturer().cast_unsigned()];
    stop(capturer[0]);
    let lsn = client.text("SELECT pg_current_wal_insert_lsn()::text");
    let flushed = format!("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '{lsn}'");
    client.wait_for("the standby has the change", |client| client.number(&flushed) == 1);
    // From here on the standby gets no WAL.
    let sender = client.number("SELECT pid::bigint FROM pg_stat_replication");
    stop(u32::try_from(sender).unwrap());
    lock.batch_execute("COMMIT").unwrap();
    signal("CONT", &capturer);
    // A copy of the slot from behind a change whose message the standby hasn't is what would lose it.
    let message = "SELECT count(*) FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't'";
    client.wait_for("the messages are written", |client| {
        let _ = replica.batch_execute("SELECT pg_sync_replication_slots()");
        client.number(message) == ROUNDS
    });
    primary.kill_9();

    replica.batch_execute("SELECT pg_promote()").unwrap();
    wait_until("the standby is promoted", DEADLINE, || {
        replica.number("SELECT pg_is_in_recovery()::int::bigint") == 0
    });
    replica.batch_execute("ALTER SYSTEM RESET synchronized_standby_slots").unwrap();
    replica.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut client = standby.connect("failover");
    client.batch_execute("INSERT INTO t VALUES (0)").unwrap();
    client.catch_up();
    let ids = "SELECT (data->'record'->>'id')::bigint FROM sequin_stream.s
               WHERE data->'metadata'->>'table' = 't' ORDER BY seq";
    let got: Vec<i64> = client.query(ids, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(got, (1..=ROUNDS).chain([0]).collect::<Vec<_>>());
}
