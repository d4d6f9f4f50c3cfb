//! What commands do, where that is more than the call of a function.

use libtest_mimic::Trial;

use crate::harness::{Fixture, PATIENCE, spawn, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        a_rewind_says_how_many_messages_come_again,
        edit_shows_the_difference,
        messages_are_selected_by_filter_condition_and_place,
        follow_shows_what_commits_late,
        dead_letters_are_shown_and_redriven,
        doctor_names_the_remedy,
        check_speaks_as_monitoring_does,
        contexts_are_kept_without_passwords,
        a_backfill_is_waited_for,
        manual_pages_are_written,
    ]
}

fn orders(name: &str, messages: u32) -> Fixture {
    let fixture = Fixture::new(name);
    fixture.sql(
        "SELECT sequin.create_stream('orders');
         SELECT sequin.create_consumer('orders', 'billing', filters => '{eu.*}', ordered => false);",
    );
    fixture.sql(&format!(
        "SELECT sequin.publish('orders', (array['us', 'eu'])[1 + n % 2] || '.k', to_jsonb(n)) FROM generate_series(1, {messages}) n"
    ));
    fixture
}

fn a_rewind_says_how_many_messages_come_again() {
    // The odd ones are of eu: 1, 3, 5, 7, 9.
    let fixture = orders("rewind", 10);
    let none = fixture.run(&["consumer", "rewind", "billing", "--back", "2", "--yes"]);
    assert_eq!(none.code, 1, "{none:?}");
    fixture.ok(&["consumer", "receive", "billing", "--batch-size", "4", "--wait", "10 s", "--ack"]);
    fixture.until(&["consumer", "info", "billing", "-o", "format {acked_total}"], "4");
    let preview = |to: &[&str]| {
        let mut arguments = vec!["consumer", "rewind", "billing", "--dry-run"];
        arguments.extend(["-o", "format {to_seq} {come_again} {come_in_all}"]);
        arguments.extend(to);
        fixture.ok(&arguments)
    };
    assert_eq!(preview(&["--back", "2"]), "5 2 3\n");
    assert_eq!(preview(&["--to-seq", "3"]), "3 3 4\n");
    assert_eq!(preview(&["--to-start"]), "1 4 5\n");
    assert_eq!(preview(&["--to-time", "1 hour"]), "1 4 5\n");
    fixture.sql("SELECT sequin.create_consumer('orders', 'audit')");
    fixture.until(&["consumer", "info", "audit", "-o", "format <{ack_floor}>"], "<0>");
    assert_eq!(preview(&["--like", "audit"]), "1 4 5\n");
    fixture.ok(&["consumer", "rewind", "billing", "--back", "2", "--yes"]);
    let arguments =
        ["consumer", "receive", "billing", "-n", "9", "--wait", "10 s", "-o", "format {seq}"];
    assert_eq!(fixture.ok(&arguments), "5\n7\n9\n");
    let both = fixture.run(&["consumer", "rewind", "billing", "--back", "2", "--to-seq", "1"]);
    assert_eq!(both.code, 2);
}

fn edit_shows_the_difference() {
    let fixture = orders("edit", 0);
    let edit = ["consumer", "edit", "billing", "--ack-wait", "5 min", "--backoff", "1 s,1 min"];
    let out = fixture.ok(&edit);
    assert!(out.contains("- ack_wait: \"00:00:30\"\n+ ack_wait: \"00:05:00\"\n"), "{out}");
    assert!(out.contains("- backoff: null\n"), "{out}");
    assert_eq!(fixture.ok(&edit), "");
    assert_eq!(
        fixture.ok(&["stream", "edit", "orders", "--dedup-window", "1 hour"]),
        "- dedup_window: \"00:02:00\"\n+ dedup_window: \"01:00:00\"\n"
    );
    let bad = fixture.run(&["consumer", "edit", "billing", "--ack-wait", "0 s"]);
    assert_eq!((bad.code, bad.out.as_str()), (1, ""), "{bad:?}");
}

fn messages_are_selected_by_filter_condition_and_place() {
    let fixture = orders("selecting", 10);
    let seqs = |arguments: &[&str]| {
        let mut all = vec!["message", "view", "orders", "-o", "format {seq}"];
        all.extend(arguments);
        fixture.run(&all).out.replace('\n', " ")
    };
    assert_eq!(seqs(&["--filter", "eu.*", "--last", "2"]), "7 9 ");
    assert_eq!(seqs(&["--first", "3"]), "1 2 3 ");
    assert_eq!(seqs(&["--after-seq", "8"]), "9 10 ");
    assert_eq!(seqs(&["--where", "data::int > 8 OR data::int = 1", "--filter", "eu.*"]), "1 9 ");
    assert_eq!(seqs(&["--until", "1 hour"]), "");
    assert_eq!(
        fixture.ok(&["message", "count", "orders", "--filter", "us.>", "--since", "1h"]),
        "5\n"
    );
    assert_eq!(
        fixture.ok(&["message", "get", "orders", "eu.k", "-o", "format {seq} {data}"]),
        "9 9\n"
    );
    assert_eq!(fixture.ok(&["stream", "purge", "orders", "--before-seq", "4", "--dry-run"]), "3\n");
    assert_eq!(fixture.ok(&["stream", "purge", "orders", "--before-seq", "4", "--yes"]), "3\n");
    assert_eq!(seqs(&["--first", "1"]), "4 ");
    let bad = fixture.run(&["message", "view", "orders", "--filter", "a.>.b"]);
    assert!(bad.err.contains("22023"), "{bad:?}");
}

fn follow_shows_what_commits_late() {
    use std::io::{BufRead, BufReader};
    let fixture = orders("follow", 1);
    let mut child = spawn(fixture.command().args([
        "message",
        "view",
        "orders",
        "--follow",
        "-o",
        "format {seq}",
    ]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    let (mut early, mut late) = (fixture.database.connect(), fixture.database.connect());
    early.batch_execute("BEGIN; SELECT sequin.publish('orders', 'a', '2')").unwrap();
    late.batch_execute("SELECT sequin.publish('orders', 'a', '3')").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "3");
    early.batch_execute("COMMIT").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    late.batch_execute("SELECT sequin.publish('orders', 'a', '4')").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "4");
    sequin_testkit::process::signal("INT", &[child.id()]);
    assert!(child.wait().unwrap().success());
}

fn dead_letters_are_shown_and_redriven() {
    let fixture = orders("dead", 3);
    let id =
        fixture.ok(&["consumer", "receive", "billing", "--wait", "10 s", "-o", "format {ack_id}"]);
    assert_eq!(
        fixture.ok(&["consumer", "reject", "billing", id.trim(), "--reason", "too high"]),
        "1\n"
    );
    assert_eq!(fixture.run(&["consumer", "reject", "billing", id.trim()]).code, 4);
    let dead = fixture.ok(&["consumer", "dead", "billing", "-o", "format {seq} {reason}"]);
    assert_eq!(dead, "1 too high\n");
    assert_eq!(fixture.ok(&["consumer", "redrive", "billing", "--all"]), "1\n");
    assert_eq!(fixture.ok(&["consumer", "dead", "billing", "-o", "jsonl"]), "");
}

fn doctor_names_the_remedy() {
    let fixture = orders("doctor", 2);
    fixture.until(&["doctor"], "ok       consumers");
    let run = fixture.run(&["doctor"]);
    assert_eq!(run.code, 0, "{run:?}");
    fixture.sql(
        "CREATE TABLE bare (a int PRIMARY KEY);
         SELECT sequin.create_stream('changes');",
    );
    fixture.sql(
        "SELECT sequin.create_source('bank', 'changes', tables => '{bare}', backfill => false)",
    );
    fixture.sql("SELECT sequin.pause_source('bank'); ALTER TABLE bare DROP CONSTRAINT bare_pkey");
    let id =
        fixture.ok(&["consumer", "receive", "billing", "--wait", "10 s", "-o", "format {ack_id}"]);
    fixture.ok(&["consumer", "reject", "billing", id.trim()]);
    let run = fixture.run(&["doctor"]);
    assert_eq!(run.code, 1, "{run:?}");
    for part in [
        "error    replica identity\n         table bare of source bank has no replica identity",
        "ALTER TABLE bare ADD PRIMARY KEY",
        "warning  sources\n         source bank is paused",
        "SELECT sequin.resume_source('bank');",
        "warning  dead letters\n         consumer billing has 1 new dead letters",
        "warning  max_slot_wal_keep_size",
        "ok       workers",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    let lines = fixture.run(&["doctor", "-o", "jsonl"]).out;
    let all: Vec<serde_json::Value> =
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.iter().any(|line| line["status"] == "error" && !line["remedy"].is_null()));
    fixture.sql("SELECT sequin.drop_source('bank')");
}

fn check_speaks_as_monitoring_does() {
    let fixture = orders("checking", 10);
    fixture.until(&["consumer", "info", "billing", "-o", "format {lag}"], "10");
    let check = |arguments: &[&str]| {
        let mut all = vec!["check", "consumer", "billing"];
        all.extend(arguments);
        fixture.run(&all)
    };
    assert_eq!(check(&["--lag-warn", "1000"]).code, 0);
    let warning = check(&["--lag-warn", "5", "--lag-critical", "100", "--format", "nagios"]);
    assert_eq!(warning.code, 1, "{warning:?}");
    assert!(warning.out.starts_with("WARNING - consumer billing is active"), "{warning:?}");
    assert!(warning.out.contains("| lag=10;5;100 "), "{warning:?}");
    assert_eq!(check(&["--lag-critical", "5"]).code, 2);
    let prometheus = check(&["--format", "prometheus"]).out;
    assert!(prometheus.contains("sequin_consumer_lag{consumer=\"billing\"} 10\n"), "{prometheus}");
    let json: serde_json::Value = serde_json::from_str(&check(&["--format", "json"]).out).unwrap();
    assert_eq!((&json["state"], &json["values"]["lag"]), (&"OK".into(), &10.0.into()));
    let unknown = fixture.run(&["check", "consumer", "nope"]);
    assert_eq!(unknown.code, 3);
    assert!(unknown.out.starts_with("UNKNOWN"), "{unknown:?}");
    fixture.ok(&["consumer", "pause", "billing"]);
    assert_eq!(check(&[]).code, 1);
}

fn contexts_are_kept_without_passwords() {
    let fixture = orders("contexts", 0);
    let name = fixture.database.name.clone();
    let add = fixture.run(&[
        "context",
        "add",
        "here",
        &format!("dbname={name} password=secret"),
        "--set-default",
    ]);
    assert_eq!(add.code, 0, "{add:?}");
    assert!(add.err.contains("~/.pgpass"), "{add:?}");
    let file =
        std::fs::read_to_string(fixture.home.path().join(".sequin/contexts/here.json")).unwrap();
    assert!(!file.contains("secret"), "{file}");
    // The selected one goes before the environment.
    let mut command = fixture.command();
    let run = crate::harness::run(command.env("PGDATABASE", "nope").args(["stream", "ls"]), b"");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(fixture.ok(&["context", "ls"]).contains("here"));
    assert_eq!(fixture.run(&["--context", "there", "stream", "ls"]).code, 2);
    fixture.ok(&["context", "add", "wrong", "dbname=nope"]);
    let wrong = fixture.run(&["--context", "wrong", "stream", "ls"]);
    assert!(wrong.err.contains("3D000"), "{wrong:?}");
    fixture.ok(&["context", "rm", "here"]);
    assert!(!fixture.ok(&["context", "ls"]).contains("here"));
    let bad = fixture.run(&["context", "add", "../x", "dbname=a"]);
    assert_eq!(bad.code, 2, "{bad:?}");
}

fn a_backfill_is_waited_for() {
    let fixture = orders("backfill", 0);
    fixture.sql(
        "CREATE TABLE accounts (id int PRIMARY KEY);
         INSERT INTO accounts SELECT generate_series(1, 100);
         SELECT sequin.create_stream('changes');",
    );
    fixture.sql(
        "SELECT sequin.create_source('bank', 'changes', tables => '{accounts}', backfill => false)",
    );
    let run =
        fixture.run(&["source", "backfill", "bank", "accounts", "--where", "id > 90", "--wait"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("is done: 10 rows"), "{run:?}");
    wait_until("the rows are there", PATIENCE, || {
        fixture.ok(&["message", "count", "changes"]) == "10\n"
    });
    fixture.ok(&["source", "rm", "bank", "--yes"]);
}

fn manual_pages_are_written() {
    let fixture = Fixture::without_extension("man");
    let folder = fixture.home.path().join("man");
    fixture.ok(&["man", "--dir", folder.to_str().unwrap()]);
    for page in ["sequin.1", "sequin-consumer-rewind.1"] {
        assert!(std::fs::read_to_string(folder.join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(fixture.ok(&["man", "stream", "add"]).contains(".TH"));
}
