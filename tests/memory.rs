//! Sessions and workers that live long don't grow: after a warm-up, more of the same leaves nothing behind.
//!
//! What counts are PostgreSQL's memory contexts, by what is used in them: a process's size says little in a test.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Trial;
use postgres::Client;

use crate::calls::{Calls, seconds};
use crate::harness::{LOGICAL_DECODING, database, trials};
use sequin_testkit::cluster::{Cluster, wait_until};

pub fn tests() -> Vec<Trial> {
    trials![
        calls_leave_nothing_in_their_session,
        streams_that_come_and_go_leave_no_plans_behind,
        work_leaves_nothing_in_the_workers
    ]
}

const DEADLINE: Duration = seconds(60);

/// The calls between two looks.
const CALLS: usize = 50;

/// The streams between two looks: as many as a session keeps plans for, so that it has as many each time.
const STREAMS: usize = 128;

/// What each call may leave, in bytes. Statistics that are not reported yet and open files come and go, but not with
/// each call; the least that a call could lose is an empty chunk of 16 bytes.
const MAY_STAY: i64 = 8;

/// One call of each, or of several that need each other.
const CALLS_OF_A_SESSION: &[&str] = &[
    "SELECT sequin.publish('s', 'a.b', '{\"a\": 1}', '{}')",
    "SELECT sequin.publish_many('s', '{a, b}', ARRAY['1', '2']::jsonb[])",
    "INSERT INTO sequin_stream.s (key, data) VALUES ('a', '1')",
    "SELECT sequin.ack('c', array(SELECT ack_id FROM sequin.receive('c', 1000)))",
    "SELECT sequin.nack('c', array(SELECT ack_id FROM sequin.receive('c', 1)))",
    "SELECT sequin.extend('c', array(SELECT ack_id FROM sequin.receive('c', 1)))",
    "SELECT sequin.reject('c', array(SELECT ack_id FROM sequin.receive('c', 1))); SELECT sequin.redrive('c')",
    "SELECT sequin.redeliver('c', '{1, 2, 3}')",
    "SELECT sequin.rewind('c'); SELECT sequin.rewind('c', to_time => now())",
    "SELECT sequin.pause_consumer('c'); SELECT sequin.resume_consumer('c')",
    "SELECT sequin.alter_consumer('c', filters => '{>}', backoff => '{1 s}')",
    "SELECT sequin.create_consumer('s', 'd'); SELECT sequin.drop_consumer('d')",
    "SELECT sequin.key_matches('a.b', 'a.>')",
    "SELECT * FROM sequin.messages('s')",
    "SELECT * FROM sequin.in_flight('c')",
    "SELECT * FROM sequin.stream_stats",
    "SELECT * FROM sequin.consumer_stats",
    "SELECT * FROM sequin.source_stats",
    "SELECT * FROM sequin.workers",
    "BEGIN; SELECT sequin.publish('s', 'a', '1'); SAVEPOINT p; SELECT * FROM sequin.receive('c', 2); ROLLBACK TO p; ROLLBACK",
    "DO $$ BEGIN PERFORM sequin.publish('s', 'a b', '1'); EXCEPTION WHEN OTHERS THEN END $$",
    "DO $$ BEGIN PERFORM sequin.receive('none'); EXCEPTION WHEN OTHERS THEN END $$",
];

fn calls_leave_nothing_in_their_session() {
    let database = database("memory_session");
    let mut client = database.connect();
    client.create("s", "c", "");
    for call in CALLS_OF_A_SESSION {
        let mut client = database.connect();
        let grown = least_growth(|| {
            (0..CALLS).for_each(|_| client.batch_execute(call).unwrap());
            used(&mut client)
        });
        let grown: Vec<_> = grown.iter().filter(|(_, by)| **by > MAY_STAY * CALLS as i64).collect();
        assert!(grown.is_empty(), "{CALLS} times {call}\nlet grow, by bytes: {grown:?}");
    }
}

/// PostgreSQL's own caches keep something of each table that is gone. Kept plans are what a session of sequin's adds.
fn streams_that_come_and_go_leave_no_plans_behind() {
    let database = database("memory_streams");
    let mut client = database.connect();
    let mut number = 0;
    let grown = least_growth(|| {
        for _ in 0..STREAMS {
            number += 1;
            let calls = "SELECT sequin.create_stream('t$'); SELECT sequin.publish('t$', 'a', '1');
                         SELECT sequin.publish_many('t$', '{a}', ARRAY['1']::jsonb[]); SELECT sequin.drop_stream('t$')";
            client.batch_execute(&calls.replace('$', &number.to_string())).unwrap();
        }
        used(&mut client)
    });
    let plans = ["SPI Plan", "CachedPlan", "CachedPlanSource", "CachedPlanQuery"];
    for plan in plans {
        assert!(grown.contains_key(plan), "no context of this name: {plan}");
        assert!(grown[plan] <= 0, "in {STREAMS} streams: {grown:?}");
    }
}

/// How much has grown each time, of what `look` says, in several times. What is loaded once, late, shows in one of them.
fn least_growth(mut look: impl FnMut() -> BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    const TIMES: usize = 5;
    let mut before = look();
    let mut least: Option<BTreeMap<String, i64>> = None;
    for _ in 0..TIMES {
        let after = look();
        let by =
            |(name, now): (&String, &i64)| (name.clone(), now - before.get(name).unwrap_or(&0));
        let grown: BTreeMap<String, i64> = after.iter().map(by).collect();
        let smaller = |(name, by): (String, i64)| {
            let by = grown.get(&name).map_or(0, |now| by.min(*now));
            (name, by)
        };
        least = Some(match least {
            Some(least) => least.into_iter().map(smaller).collect(),
            None => grown.clone(),
        });
        before = after;
        // Nothing has grown every time: no need to look on.
        if least.iter().flatten().all(|(_, by)| *by <= 0) {
            break;
        }
    }
    least.unwrap_or_default()
}

/// What is used of each kind of context of this session.
fn used(client: &mut Client) -> BTreeMap<String, i64> {
    let query = "SELECT name, sum(used_bytes)::bigint FROM pg_backend_memory_contexts GROUP BY 1";
    client.query(query, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What the workers are there for: deliveries of all kinds, changed settings, captured changes.
const WORK: &[&str] = &[
    "SELECT sequin.publish('s', 'a.' || n, '{}') FROM generate_series(1, 20) n",
    "SELECT sequin.ack('c', array(SELECT ack_id FROM sequin.receive('c', 10)))",
    "SELECT sequin.nack('c', array(SELECT ack_id FROM sequin.receive('c', 5)))",
    "SELECT sequin.reject('c', array(SELECT ack_id FROM sequin.receive('c', 1)))",
    "SELECT sequin.ack('c', array(SELECT ack_id FROM sequin.receive('c', 1000)))",
    "SELECT sequin.create_consumer('s', 'd')",
    "SELECT * FROM sequin.receive('d', 3)",
    "SELECT sequin.drop_consumer('d')",
    "SELECT sequin.alter_consumer('c', filters => '{a.>, b}')",
    "INSERT INTO t VALUES (1, 'x', '{1, 2}'); UPDATE t SET x = 'y'; DELETE FROM t",
    "DELETE FROM sequin_stream.s; DELETE FROM sequin_stream.captured; DELETE FROM sequin.dead_letters",
];

/// How often that is done before each look.
const ROUNDS: usize = 60;

fn work_leaves_nothing_in_the_workers() {
    let cluster = Cluster::start_with(LOGICAL_DECODING);
    let database = cluster.database("memory_workers");
    let mut client = database.connect();
    client
        .batch_execute(
            "CREATE TABLE t (id integer PRIMARY KEY, x text, list integer[]);
             SELECT sequin.create_stream('s'); SELECT sequin.create_consumer('s', 'c');
             SELECT sequin.create_stream('captured'); SELECT sequin.create_source('src', 'captured', '{t}')",
        )
        .unwrap();
    let grown = least_growth(|| {
        for _ in 0..ROUNDS {
            WORK.iter().for_each(|work| client.batch_execute(work).unwrap());
        }
        wait_until("all is captured", DEADLINE, || {
            client.number("SELECT count(*) FROM sequin.source_stats WHERE lag_bytes = 0") == 1
        });
        let workers = client.query("SELECT process, pid FROM sequin.workers", &[]).unwrap();
        let used = |row: &postgres::Row| used_by(&cluster, &mut client, row.get(0), row.get(1));
        workers.iter().flat_map(used).collect()
    });
    let processes = ["launcher", "dispatcher", "capturer"];
    assert!(processes.iter().all(|p| grown.keys().any(|name| name.starts_with(p))), "{grown:?}");
    let may_stay = |name: &str| match CACHES.iter().any(|cache| name.ends_with(cache)) {
        true => MAY_STAY_IN_CACHES,
        false => MAY_STAY,
    };
    let too_much = |(name, by): &(&String, &i64)| **by > may_stay(name) * ROUNDS as i64;
    let grown: Vec<_> = grown.iter().filter(too_much).collect();
    assert!(grown.is_empty(), "bytes in {ROUNDS} rounds: {grown:?}");
}

/// Contexts of PostgreSQL's caches: what is in them comes and goes with what else happens in the server, statistics of
/// tables that autovacuum has taken among it. A plan that stays, or an entry, is still more than this in each round.
const CACHES: &[&str] = &[
    "CacheMemoryContext",
    "index info",
    "more child contexts",
    // Of decoding: the transactions that have changed catalogs since the server last wrote which ones are running.
    "snapshot builder context",
    "MdSmgr",
    "PgStat Pending",
    "PgStat Shared Ref",
    "PgStat Shared Ref Hash",
];
const MAY_STAY_IN_CACHES: i64 = 64;

/// What is used of the contexts of another process, by process and name: it says so in the log when it is asked.
fn used_by(
    cluster: &Cluster,
    client: &mut Client,
    process: &str,
    pid: i32,
) -> BTreeMap<String, i64> {
    /// What comes last.
    const TOTAL: &str = "Grand total";
    let log = || std::fs::read_to_string(cluster.log()).unwrap();
    let begin = log().len();
    client.execute("SELECT pg_log_backend_memory_contexts($1)", &[&pid]).unwrap();
    let mark = format!("[{pid}]");
    let mut used = BTreeMap::new();
    wait_until("the process has told what it uses", DEADLINE, || {
        used.clear();
        let mut is_told = false;
        for line in log()[begin..].lines().filter(|line| line.contains(&mark)) {
            // level: 1; CacheMemoryContext: 1 total in 2 blocks; 3 free (4 chunks); 5 used
            // level: 2; 6 more child contexts containing 1 total in 2 blocks; 3 free (4 chunks); 5 used
            // Grand total: 1 bytes in 2 blocks; 3 free (4 chunks); 5 used
            let Some((start, bytes)) = line.trim_end_matches(" used").rsplit_once("; ") else {
                continue;
            };
            let Ok(bytes) = bytes.trim_end_matches(" used").parse::<i64>() else { continue };
            let sums = ["more child contexts", TOTAL];
            let name = match sums.into_iter().find(|sum| start.contains(sum)) {
                None => start.split("; ").nth(1).and_then(|it| it.split(": ").next()),
                sum => sum,
            };
            let Some(name) = name else { continue };
            is_told |= name == TOTAL;
            if name != TOTAL {
                *used.entry(format!("{process}: {name}")).or_insert(0) += bytes;
            }
        }
        is_told
    });
    used
}
