//! Exit codes, formats, questions, typos: what scripts and people count on.

use libtest_mimic::Trial;

use crate::harness::{Fixture, PATIENCE, run, run_of, spawn, trials};
use sequin_testkit::cluster::wait_until;

pub fn tests() -> Vec<Trial> {
    trials![
        exit_codes_tell_what_came_of_it,
        ids_and_numbers_are_exact_in_every_format,
        without_a_terminal_nothing_asks_and_nothing_is_coloured,
        on_a_terminal_it_asks,
        as_sql_prints_what_would_run,
        a_dry_run_changes_nothing,
        typos_are_answered_with_the_name_that_was_meant,
        the_names_of_the_database_are_completed,
        ctrl_c_stops_a_send_and_says_where_it_stands,
        a_closed_pipe_is_no_error,
    ]
}

fn orders(name: &str) -> Fixture {
    let fixture = Fixture::new(name);
    fixture.sql("SELECT sequin.create_stream('orders')");
    fixture.sql("SELECT sequin.create_consumer('orders', 'billing', ordered => false)");
    fixture
}

fn exit_codes_tell_what_came_of_it() {
    let fixture = orders("exit_codes");
    for (arguments, code) in [
        (&["stream", "ls"][..], 0),
        (&["consumer", "receive", "billing"], 3),
        (&["message", "view", "orders"], 3),
        (&["message", "get", "orders", "7"], 3),
        (&["stream", "info", "nope"], 1),
        (&["consumer", "receive", "nope"], 1),
        (&["message", "send", "orders", "bad key", "1"], 1),
        (&["message", "send", "orders", "a", "{\"broken\": }"], 1),
        (&["stream", "nope"], 2),
        (&["stream", "ls", "-o", "xml"], 2),
        (&["stream", "ls", "-o", "format {nope}"], 2),
        (&["stream", "rm", "orders"], 2),
        (&["stream", "purge", "orders"], 2),
        (&["consumer", "ack", "billing", "1"], 4),
    ] {
        let run = fixture.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        if code == 1 || code == 2 {
            assert_eq!(run.out, "", "{arguments:?}");
            assert!(run.err.contains("error: "), "{arguments:?}: {run:?}");
        }
    }
    let error = fixture.run(&["consumer", "receive", "billing", "--batch-size", "1001"]);
    assert!(error.err.contains("SQLSTATE 22023"), "{error:?}");
}

fn ids_and_numbers_are_exact_in_every_format() {
    let fixture = orders("formats");
    let data = "{\"n\": 12345678901234567890.10, \"s\": \"a,\\\"b\\\"\\n\"}";
    for _ in 0..5 {
        fixture.ok(&["message", "send", "orders", "k", data]);
    }
    let receive = |format: &str| fixture.ok(&["consumer", "receive", "billing", "-o", format]);
    let line = receive("jsonl");
    assert!(
        line.contains("12345678901234567890.10") && line.contains("\"headers\": null"),
        "{line}"
    );
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let id = value["ack_id"].as_str().unwrap();
    assert!(value["inserted_at"].as_str().unwrap().contains('T'));
    assert_eq!(fixture.ok(&["consumer", "ack", "billing", id]), "1\n");
    let list: serde_json::Value = serde_json::from_str(&receive("json")).unwrap();
    assert_eq!(list[0]["seq"], 2);
    let csv = receive("csv");
    assert!(csv.starts_with("ack_id,seq,key,deliver_count,inserted_at,data,headers\n"), "{csv}");
    assert!(csv.contains("\"{\"\"n\"\": 12345678901234567890.10"), "{csv}");
    assert!(receive("yaml").contains("\n  seq: 4\n"));
    assert_eq!(receive("format {seq}\\t{key}"), "5\tk\n");
    let empty = fixture.run(&["message", "view", "orders", "--filter", "x", "-o", "json"]);
    assert_eq!(empty.out, "[]\n");
    let table = fixture.ok(&["consumer", "ls"]);
    assert!(table.contains("CONSUMER") && table.contains("billing"), "{table}");
}

fn without_a_terminal_nothing_asks_and_nothing_is_coloured() {
    let fixture = orders("no_terminal");
    let many: String = (0..30).map(|n| format!("{{\"key\": \"k\", \"data\": {n}}}\n")).collect();
    fixture.run_with(&["message", "send", "orders", "--from", "-"], many.as_bytes());
    // Not the last screenful: all of it, and no line is cut or wrapped.
    assert_eq!(fixture.ok(&["message", "view", "orders"]).lines().count(), 31);
    let refused = fixture.run_with(&["stream", "rm", "orders", "--force"], b"y\n");
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--yes"), "{refused:?}");
    for arguments in
        [&["doctor"][..], &["stream", "ls"], &["stream", "info", "orders"], &["stream", "nope"]]
    {
        let run = fixture.run(arguments);
        assert!(!run.out.contains('\x1b') && !run.err.contains('\x1b'), "{arguments:?}: {run:?}");
    }
    assert_eq!(fixture.ok(&["stream", "rm", "orders", "--force", "--yes"]), "");
}

/// What a command does on a terminal, with these keys typed.
fn on_terminal(fixture: &Fixture, line: &str, keys: &str) -> crate::harness::Run {
    let line = line.replace("sequin", env!("CARGO_BIN_EXE_sequin"));
    let template = fixture.command();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_clear();
    for (name, value) in template.get_envs() {
        command.env(name, value.unwrap());
    }
    run(command.env("TERM", "xterm"), keys.as_bytes())
}

fn on_a_terminal_it_asks() {
    let fixture = orders("terminal");
    let no = on_terminal(&fixture, "sequin consumer rm billing", "n\n");
    assert!(no.out.contains("[y/N]") && no.out.contains("nothing was changed"), "{no:?}");
    assert!(fixture.ok(&["consumer", "ls"]).contains("billing"));
    let refused = on_terminal(&fixture, "sequin --no-input consumer rm billing", "y\n");
    assert_eq!(refused.code, 2, "{refused:?}");
    let yes = on_terminal(&fixture, "sequin consumer rm billing", "y\n");
    assert_eq!(yes.code, 0, "{yes:?}");
    assert!(!fixture.ok(&["consumer", "ls"]).contains("billing"));
}

fn as_sql_prints_what_would_run() {
    let fixture = orders("as_sql");
    for (arguments, sql) in [
        (
            &["stream", "add", "x", "--dedup-window", "1 hour"][..],
            "SELECT sequin.create_stream('x', dedup_window => '1 hour') AS table;\n",
        ),
        (
            &["stream", "add", "x", "--retain-for", "7 days", "--retain-messages", "5"],
            "SELECT sequin.create_stream('x', retain_for => '7 days', retain_messages => 5) AS table;\n",
        ),
        (
            &["consumer", "edit", "billing", "--ack-wait-ms", "500"],
            "SELECT sequin.alter_consumer('billing', ack_wait => '500 ms');\n",
        ),
        (
            &["message", "send", "orders", "k", "it's"],
            "SELECT sequin.publish('orders', 'k', '\"it''s\"') AS seq;\n",
        ),
        (
            &["consumer", "rewind", "billing", "--to-time", "1 hour"],
            "SELECT sequin.rewind('billing', to_time => now() - interval '1 hour');\n",
        ),
        (
            &["consumer", "nack", "billing", "1", "--delay", "5 s"],
            "SELECT sequin.nack('billing', '{1}', delay => '5 s') AS nacked;\n",
        ),
        (
            &["source", "add", "b", "orders", "--tables", "a,b.c"],
            "SELECT sequin.create_source('b', 'orders', tables => '{a,b.c}');\n",
        ),
    ] {
        let mut all = arguments.to_vec();
        all.push("--as-sql");
        assert_eq!(fixture.ok(&all), sql);
    }
    assert!(!fixture.ok(&["stream", "ls"]).contains(" x "));
    // It is SQL: psql runs what is printed.
    for arguments in [
        &["stream", "ls"][..],
        &["stream", "info", "orders"],
        &["consumer", "info", "billing"],
        &["consumer", "peek", "billing"],
        &["consumer", "rewind", "billing", "--back", "1"],
        &["consumer", "rewind", "billing", "--like", "billing"],
        &["message", "view", "orders", "--last", "5", "--since", "1h"],
        &["source", "ls"],
        &["doctor"],
        &["check", "consumer", "billing"],
    ] {
        let mut all = arguments.to_vec();
        all.push("--as-sql");
        fixture.sql(&fixture.ok(&all));
    }
}

fn a_dry_run_changes_nothing() {
    let fixture = orders("dry_run");
    fixture.ok(&["message", "send", "orders", "k", "1"]);
    for arguments in [
        &["stream", "add", "x"][..],
        &["stream", "rm", "orders", "--force"],
        &["stream", "purge", "orders", "--all"],
        &["stream", "edit", "orders", "--dedup-window", "1 hour"],
        &["consumer", "add", "orders", "x"],
        &["consumer", "rm", "billing"],
        &["consumer", "pause", "billing"],
        &["consumer", "edit", "billing", "--max-deliver", "3"],
        &["consumer", "rewind", "billing", "--to-start"],
        &["message", "send", "orders", "k", "2"],
        &["source", "add", "x", "orders"],
    ] {
        let mut all = arguments.to_vec();
        all.push("--dry-run");
        fixture.ok(&all);
    }
    // The server's own error, though nothing would be changed.
    assert_eq!(fixture.run(&["stream", "add", "orders", "--dry-run"]).code, 1);
    assert_eq!(
        fixture.ok(&["stream", "ls", "-o", "format {stream} {messages} {consumers}"]),
        "orders 2 1\n"
    );
    let info = fixture.ok(&["consumer", "info", "billing", "-o", "format {status} {max_deliver}"]);
    assert_eq!(info, "active \n");
    assert_eq!(fixture.ok(&["message", "count", "orders"]), "1\n");
}

fn typos_are_answered_with_the_name_that_was_meant() {
    let fixture = orders("typos");
    for (arguments, name) in [
        (&["stream", "info", "order"][..], "orders"),
        (&["message", "view", "ordres"], "orders"),
        (&["message", "send", "Orders", "k", "1"], "orders"),
        (&["consumer", "receive", "biling"], "billing"),
        (&["consumer", "rewind", "biling", "--to-start", "--yes"], "billing"),
        (&["consumer", "add", "oders", "x"], "orders"),
        (&["check", "consumer", "bilings"], "billing"),
    ] {
        let run = fixture.run(arguments);
        assert!(run.err.contains("42704"), "{arguments:?}: {run:?}");
        assert!(run.err.contains(&format!("did you mean: {name}\n")), "{arguments:?}: {run:?}");
    }
    let command = fixture.run(&["consumer", "recieve", "billing"]);
    assert!(command.err.contains("'receive'"), "{command:?}");
    let far = fixture.run(&["stream", "info", "webhooks"]);
    assert!(!far.err.contains("did you mean"), "{far:?}");
}

fn the_names_of_the_database_are_completed() {
    let fixture = orders("complete");
    let complete = |words: &[&str]| {
        let arguments: Vec<&str> = ["__complete", "--"].iter().chain(words).copied().collect();
        fixture.ok(&arguments)
    };
    assert_eq!(complete(&["stream", "info", ""]), "orders\n");
    assert_eq!(complete(&["consumer", "receive", "b"]), "billing\n");
    assert_eq!(complete(&["consumer", "rew"]), "rewind\n");
    assert_eq!(complete(&["consumer", "rewind", "billing", "--to-t"]), "--to-time\n");
    // Where there is no server, it says nothing.
    let nowhere = complete(&["--host", "/nowhere", "stream", "info", ""]);
    assert_eq!(nowhere, "");
    for shell in ["bash", "zsh", "fish"] {
        assert!(fixture.ok(&["completions", shell]).contains("__complete"));
    }
}

fn ctrl_c_stops_a_send_and_says_where_it_stands() {
    use std::io::Write;
    let fixture = orders("ctrl_c");
    let mut child = spawn(fixture.command().args(["message", "send", "orders", "--from", "-"]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{\"key\": \"k\", \"data\": 1}\n{\"key\": \"k\", \"data\": 2}\n").unwrap();
    // What has come is sent, although more may come.
    wait_until("the lines are sent", PATIENCE, || {
        fixture.ok(&["message", "count", "orders"]) == "2\n"
    });
    sequin_testkit::process::signal("INT", &[child.id()]);
    let run = run_of(&child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{run:?}");
    assert!(run.err.contains("go on with --skip 2"), "{run:?}");
    drop(stdin);

    let waiting = spawn(fixture.command().args([
        "consumer",
        "receive",
        "billing",
        "--batch-size",
        "2",
        "--wait",
        "1 min",
        "--ack",
    ]));
    let run = run_of(&waiting.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let waiting =
        spawn(fixture.command().args(["consumer", "receive", "billing", "--wait", "1 hour"]));
    fixture.until(&["consumer", "info", "billing", "-o", "format {waiting}"], "1");
    sequin_testkit::process::signal("INT", &[waiting.id()]);
    assert_eq!(run_of(&waiting.wait_with_output().unwrap()).code, 130);
    fixture.until(&["consumer", "info", "billing", "-o", "format {waiting}"], "0");
}

fn a_closed_pipe_is_no_error() {
    let fixture = orders("pipe");
    let many = "{\"key\": \"k\", \"data\": \"some text that fills a pipe\"}\n".repeat(20_000);
    fixture.run_with(&["message", "send", "orders", "--from", "-"], many.as_bytes());
    let mut child = spawn(fixture.command().args(["message", "view", "orders"]));
    drop(child.stdout.take());
    let run = run_of(&child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
}
