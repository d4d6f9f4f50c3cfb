//! The capturers as processes.

use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;

use super::fixture::{Fixture, PAUSE, Sources, create_source};
use crate::calls::{Calls, seconds};
use crate::harness::{LOGICAL_DECODING, trials};
use sequin_testkit::cluster::{Cluster, Stop};
use sequin_testkit::process::{signal, stop};

pub fn tests() -> Vec<Trial> {
    trials![
        an_idle_slot_advances_while_another_database_writes,
        a_restarted_server_goes_on_at_once,
        the_views_show_capturers,
        an_idle_capturer_holds_nothing,
        a_message_comes_soon_after_the_commit,
        triggers_on_the_stream_run_as_the_owner_of_the_source,
        no_more_sources_run_than_max_sources,
        capturers_of_several_databases_do_not_mix,
    ]
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int)";

fn an_idle_slot_advances_while_another_database_writes() {
    let mut fixture = Fixture::capturing("idle_slot", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    let mut other = fixture.database.cluster.connect("postgres");
    other.batch_execute("CREATE TABLE IF NOT EXISTS noise (v text)").unwrap();
    let slot = client.slots().remove(0);
    for _ in 0..2 {
        let insert = "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
        other.batch_execute(insert).unwrap();
        let now = other.text("SELECT pg_current_wal_lsn()::text");
        for lsn in ["confirmed_flush_lsn", "restart_lsn"] {
            let passed = format!(
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND {lsn} >= '{now}'"
            );
            // The server logs what a slot can restart from every 15 seconds, and at checkpoints.
            client.wait_for(&format!("{lsn} passes it"), |client| {
                client.batch_execute("CHECKPOINT").unwrap();
                client.number(&passed) == 1
            });
        }
    }
    other.batch_execute("DROP TABLE noise").unwrap();
}

fn a_restarted_server_goes_on_at_once() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let mut fixture = Fixture::on(&cluster, "restarted", TABLE);
    fixture.client.create_source("src", &["t"], "backfill => false");
    for n in 0..4 {
        fixture.client.batch_execute(&format!("INSERT INTO t VALUES ({n}, 0)")).unwrap();
        let begun = Instant::now();
        match n {
            0 => cluster.stop(Stop::Fast),
            1 => cluster.stop(Stop::Immediate),
            _ => cluster.kill_9(),
        }
        assert!(begun.elapsed() < seconds(10), "it took {:?} to stop", begun.elapsed());
        cluster.boot();
        fixture.reconnect();
        let begun = Instant::now();
        fixture.client.catch_up();
        assert!(begun.elapsed() < seconds(5), "it took {:?} to go on", begun.elapsed());
    }
    let ids = fixture.client.texts(
        "SELECT data->'record'->>'id' FROM sequin_stream.s
         WHERE data->'metadata'->>'table' = 't' ORDER BY seq",
    );
    assert_eq!(ids, ["0", "1", "2", "3"]);
}

fn the_views_show_capturers() {
    let mut fixture = Fixture::capturing("views", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.catch_up();
    let pid = client.wait_for_capturer();
    let shown = format!(
        "SELECT count(*) FROM sequin.workers
         WHERE process = 'capturer' AND database = 'views' AND pid = {pid} AND state IS NOT NULL
           AND since <= now() AND coalesce(last_error, '') = ''"
    );
    client.wait_for("it is shown", |client| client.number(&shown) == 1);
    client.batch_execute("GRANT pg_monitor TO CURRENT_USER").unwrap_or_default();
    client
        .batch_execute(
            "DROP ROLE IF EXISTS looks; CREATE ROLE looks IN ROLE pg_monitor; SET ROLE looks",
        )
        .unwrap();
    assert_eq!(client.number("SELECT count(*) FROM sequin.source_stats WHERE source = 'src'"), 1);
    assert_eq!(client.number("SELECT count(*) FROM sequin.sources"), 1);
    assert_eq!(client.number(&shown), 1);
    client.batch_execute("RESET ROLE; DROP ROLE looks").unwrap();
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    let left =
        "SELECT count(*) FROM sequin.workers WHERE process = 'capturer' AND database = 'views'";
    client.wait_for("it is shown no more", |client| client.number(left) == 0);
}

fn an_idle_capturer_holds_nothing() {
    let mut fixture = Fixture::capturing("idle_capturer", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.messages_of(&["INSERT INTO t VALUES (1, 1)"]);
    let busy = "SELECT count(*) FROM pg_stat_activity a
                WHERE datname = 'idle_capturer' AND backend_type LIKE 'sequin%'
                  AND (a.backend_xmin IS NOT NULL OR a.xact_start IS NOT NULL
                       OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted
                                  AND l.locktype <> 'virtualxid'))";
    client.wait_for("no worker holds a snapshot, a transaction or a lock", |client| {
        client.number(busy) == 0
    });
}

fn a_message_comes_soon_after_the_commit() {
    const TIMES: usize = 50;
    let mut fixture = Fixture::capturing("soon", TABLE, &["t"]);
    let client = &mut fixture.client;
    client.create_consumer("s", "c", "");
    let mut writer = fixture.database.connect();
    client.catch_up();
    client.drain("c", PAUSE);
    let mut taken: Vec<_> = (0..TIMES)
        .map(|n| {
            thread::scope(|scope| {
                let receiving = scope.spawn(|| {
                    let got = client.receive("c", 1, seconds(20));
                    client.ack("c", &crate::calls::ack_ids(&got));
                    (Instant::now(), got.len())
                });
                thread::sleep(PAUSE / 2);
                writer.batch_execute(&format!("INSERT INTO t VALUES ({n}, 0)")).unwrap();
                let begun = Instant::now();
                let (at, count) = receiving.join().unwrap();
                assert_eq!(count, 1);
                at.saturating_duration_since(begun)
            })
        })
        .collect();
    taken.sort();
    // The benchmark measures; this only finds what waits for a timer.
    assert!(taken[TIMES / 2] < PAUSE * 10, "median {:?}", taken[TIMES / 2]);
}

/// Whoever may put a trigger on a stream's table gets no right by it that the source's owner doesn't have.
fn triggers_on_the_stream_run_as_the_owner_of_the_source() {
    let mut fixture = Fixture::new("triggers", TABLE);
    let client = &mut fixture.client;
    client
        .batch_execute(
            "DROP ROLE IF EXISTS feeder; DROP ROLE IF EXISTS evil; CREATE ROLE feeder;
             ALTER TABLE t OWNER TO feeder; ALTER TABLE marker OWNER TO feeder;
             ALTER TABLE sequin_stream.s OWNER TO feeder;
             CREATE TABLE told (who text, superuser text, outcome text); GRANT ALL ON told TO feeder;
             GRANT CREATE ON SCHEMA public TO feeder; SET ROLE feeder;
             CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE step text; outcome text := '';
             BEGIN
                 FOREACH step IN ARRAY ARRAY['RESET ROLE', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION',
                                             'CREATE ROLE evil SUPERUSER', 'ALTER ROLE feeder SUPERUSER'] LOOP
                     BEGIN
                         EXECUTE step;
                         outcome := outcome || ' ' || current_user;
                     EXCEPTION WHEN OTHERS THEN
                         outcome := outcome || ' -';
                     END;
                 END LOOP;
                 INSERT INTO public.told VALUES (current_user, current_setting('is_superuser'), outcome);
                 RETURN NEW;
             END $$;
             CREATE TRIGGER tell BEFORE INSERT ON sequin_stream.s FOR EACH ROW EXECUTE FUNCTION tell();
             RESET ROLE",
        )
        .unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 1); SET ROLE feeder").unwrap();
    client.batch_execute(&create_source("src", &["t"], "")).unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    client.finish_backfills();
    client.batch_execute("INSERT INTO t VALUES (2, 2)").unwrap();
    client.catch_up();
    let escaped = client.texts(
        "SELECT DISTINCT concat_ws(' ', who, superuser, outcome) FROM told
         WHERE who <> 'feeder' OR outcome LIKE '%postgres%'",
    );
    let roles = "SELECT rolname::text FROM pg_roles WHERE rolname = 'evil' OR rolname = 'feeder' AND rolsuper";
    let roles = client.texts(roles);
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    assert!(client.number("SELECT count(*) FROM told") >= 3, "the trigger didn't run");
    assert_eq!(escaped, [""; 0]);
    assert_eq!(roles, [""; 0]);
}

fn no_more_sources_run_than_max_sources() {
    let cluster = Cluster::start_with(&format!("{LOGICAL_DECODING}sequin.max_sources = 1"));
    let mut fixture = Fixture::on(&cluster, "max_sources", TABLE);
    let client = &mut fixture.client;
    client.create_source("src", &["t"], "backfill => false");
    client.catch_up();
    let second = "SELECT sequin.create_source('second', 's', '{t}', backfill => false)";
    // Refused at once, or told in the view; the first one goes on.
    match client.batch_execute(second) {
        Err(error) => {
            let error = error.as_db_error().unwrap();
            assert!(error.hint().unwrap_or_default().contains("sequin.max_sources"), "{error:?}");
        }
        Ok(()) => client.wait_for("the setting is named", |client| {
            client.status("second").1.contains("sequin.max_sources")
        }),
    }
    client.catch_up();
    client.batch_execute("SELECT sequin.drop_source('src')").unwrap();
    client.batch_execute("SELECT sequin.drop_source('second')").unwrap_or_default();
    client.create_source("third", &["t"], "backfill => false");
    client.catch_up();
}

fn capturers_of_several_databases_do_not_mix() {
    let mut fixtures = [1, 2, 3].map(|n| {
        let mut fixture = Fixture::new(&format!("several_{n}"), TABLE);
        fixture.client.batch_execute(&format!("INSERT INTO t VALUES (0, {n})")).unwrap();
        fixture.client.create_source("src", &["t"], "");
        fixture
    });
    for (n, fixture) in fixtures.iter_mut().enumerate() {
        let insert = format!("INSERT INTO t SELECT i, {n} + 1 FROM generate_series(1, 10) i");
        fixture.client.batch_execute(&insert).unwrap();
    }
    let capturer = fixtures[0].client.wait_for_capturer();
    fixtures[0].client.terminate(capturer);
    for (n, fixture) in fixtures.iter_mut().enumerate() {
        fixture.client.finish_backfills();
        let values = fixture.client.texts(
            "SELECT DISTINCT data->'record'->>'v' FROM sequin_stream.s WHERE data->'metadata'->>'table' = 't'",
        );
        assert_eq!(values, [(n + 1).to_string()]);
        let pid = fixture.client.wait_for_capturer();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    // One that doesn't answer delays no other.
    let stopped = fixtures[1].client.wait_for_capturer() as u32;
    stop(stopped);
    fixtures[0].client.catch_up();
    fixtures[2].client.catch_up();
    signal("CONT", &[stopped]);
    fixtures[1].client.catch_up();
}
