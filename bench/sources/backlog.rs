//! A backlog of single-row transactions becomes messages; pg_recvlogical writes the same changes to a file.
//!
//! The backlog is written once. Each round has a source and a slot of its own that were there before it, so that all
//! of them read the same WAL from the same place.

use std::time::{Duration, Instant};

use super::{count, create_source, create_stream, message_comes, wait_for_status};
use crate::load::{self, CLIENTS};
use crate::options::Options;
use crate::report::Row;
use crate::sample::{median, ratio};
use sequin_testkit::cluster::{Cluster, Database};
use sequin_testkit::process::succeed;

const CHANGES: usize = 500_000;

/// More would only take their time.
const MAX_ROUNDS: usize = 5;

/// As many inserts as updates, each its own transaction.
const SCRIPT: &str = "
\\set id random(1, 100000)
INSERT INTO changed (v, name) VALUES (:id, 'a name of some length');
UPDATE changed SET v = v + 1 WHERE id = :id;
";

const TABLES: &str = "
CREATE TABLE changed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v bigint, name text, at timestamptz DEFAULT now());
INSERT INTO changed (v, name) SELECT n, 'a name' FROM generate_series(1, 100000) n;
CREATE TABLE done (id int PRIMARY KEY);
CREATE PUBLICATION changes FOR TABLE changed, done";

pub fn rows(cluster: &Cluster, options: &Options) -> Vec<Row> {
    let rounds = options.rounds.min(MAX_ROUNDS);
    let database = cluster.database("bench_source_backlog");
    let mut client = database.connect();
    client.batch_execute(TABLES).unwrap();
    for round in 1..=rounds {
        create_stream(&mut client, &format!("stream_{round}"));
        let (source, stream) = (format!("source_{round}"), format!("stream_{round}"));
        create_source(&mut client, &source, &stream, "publication => 'changes'");
        client.execute("SELECT sequin.pause_source($1)", &[&source]).unwrap();
        wait_for_status(&mut client, &source, "paused");
    }
    for round in 1..=rounds {
        let slot = "SELECT pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
        client.execute(slot, &[&format!("plain_{round}")]).unwrap();
    }
    write_backlog(&database);
    let end: String =
        client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).unwrap().get(0);
    client.batch_execute("INSERT INTO done VALUES (1)").unwrap();
    client.batch_execute("VACUUM ANALYZE").unwrap();

    let (mut sequin, mut plain) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("backlog, round {round} of {rounds}");
        // A B B A
        for is_sequin in [round % 2 == 0, round % 2 == 1] {
            client.batch_execute("CHECKPOINT").unwrap();
            let (figures, taken) = match is_sequin {
                true => (&mut sequin, resume(&database, round)),
                false => (&mut plain, receive(&database, round, &end)),
            };
            figures.push(CHANGES as f64 / taken.as_secs_f64());
        }
    }
    let detail = format!("{:.0}/s of {:.0}/s", median(&sequin), median(&plain));
    let what = "backlog of 500,000 single-row changes to messages, to pg_recvlogical to a file";
    vec![Row::new(what, ratio(&sequin, &plain)).at_least(0.5).detail(detail)]
}

fn write_backlog(database: &Database) {
    eprintln!("writing {CHANGES} changes");
    let set = |value| format!("ALTER DATABASE {} SET synchronous_commit = {value}", database.name);
    database.connect().batch_execute(&set("off")).unwrap();
    let done = load::run_times(database, SCRIPT, CHANGES / 2 / CLIENTS);
    assert_eq!(done.transactions as usize, CHANGES / 2);
    database.connect().batch_execute(&set("on")).unwrap();
}

/// Until the last message is committed in the stream.
fn resume(database: &Database, round: usize) -> Duration {
    let (source, stream) = (format!("source_{round}"), format!("stream_{round}"));
    let mut client = database.connect();
    let begun = Instant::now();
    client.execute("SELECT sequin.resume_source($1)", &[&source]).unwrap();
    let taken = message_comes(database, &stream, "public.done.1") - begun;
    assert_eq!(count(&mut client, &stream), CHANGES as i64 + 1);
    client.execute("SELECT sequin.drop_source($1)", &[&source]).unwrap();
    taken
}

fn receive(database: &Database, round: usize, end: &str) -> Duration {
    let slot = format!("plain_{round}");
    let file = std::env::temp_dir().join(format!("sequin-bench-{}-changes", std::process::id()));
    let mut program = database.cluster.client_program("pg_recvlogical");
    program.args(["--dbname", &database.name, "--slot", &slot, "--start", "--no-loop"]);
    program.args(["--option=proto_version=1", "--option=publication_names=changes"]);
    program.args(["--endpos", end]).arg("--file").arg(&file);
    let begun = Instant::now();
    succeed(&mut program);
    let taken = begun.elapsed();
    let length = std::fs::metadata(&file).unwrap().len();
    assert!(length > CHANGES as u64 * 50, "{length} bytes are not all of the changes");
    std::fs::remove_file(file).unwrap();
    let drop = "SELECT pg_drop_replication_slot($1::text::name)";
    database.connect().execute(drop, &[&slot]).unwrap();
    taken
}
