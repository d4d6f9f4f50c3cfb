//! What `message view -o jsonl` prints, `message send --from` takes back: data, keys, headers, byte for byte.

use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Fixture, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        awkward_payloads_come_back_as_they_were,
        real_webhooks_come_back_as_they_were,
        a_bad_line_is_named_and_says_where_it_stands,
        the_servers_error_names_the_line,
        a_single_transaction_is_all_or_nothing,
        dedup_ids_and_times_are_taken,
    ]
}

/// In SQL, since that is what publishes them without this program.
const AWKWARD: &[(&str, &str, &str)] = &[
    ("a", "'null'", "NULL"),
    ("a.b", r#"'"line\nfeed, tab\t, quote\" backslash\\ slash/ del\u007f"'"#, "'{}'"),
    ("ä.日本.🎉", r#"'{"ключ": "значение 🎉", "": ""}'"#, r#"'{"trace": [1, null]}'"#),
    ("n", "'[1.000, 12345678901234567890123456789, 1e-40, -0, 0.1e1]'", "NULL"),
    ("t", r#"'"\\N"'"#, r#"'"\\."'"#),
    ("h", "'{\"headers\": null, \"key\": \"x\"}'", "'null'"),
    ("big", "to_jsonb(repeat('x y\"', 500000))", "NULL"),
];

const ALL: &str = "SELECT coalesce(jsonb_agg(jsonb_build_array(key, data::text, headers::text) ORDER BY seq), '[]')::text FROM sequin_stream.";

fn all(fixture: &Fixture, stream: &str) -> String {
    fixture.database.connect().query_one(&format!("{ALL}{stream}"), &[]).unwrap().get(0)
}

fn copy_by_jsonl(fixture: &Fixture) {
    let lines = fixture.ok(&["message", "view", "a", "-o", "jsonl"]);
    let run = fixture.run_with(&["message", "send", "b", "--from", "-"], lines.as_bytes());
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(all(fixture, "a"), all(fixture, "b"));
}

fn awkward_payloads_come_back_as_they_were() {
    let fixture = Fixture::new("awkward");
    fixture.sql("SELECT sequin.create_stream('a'), sequin.create_stream('b')");
    for (key, data, headers) in AWKWARD {
        fixture.sql(&format!("SELECT sequin.publish('a', '{key}', {data}, {headers})"));
    }
    // headers that are the JSON value null: not to be told from none, in a line.
    fixture.sql("UPDATE sequin_stream.a SET headers = NULL WHERE headers = 'null'");
    copy_by_jsonl(&fixture);
}

fn real_webhooks_come_back_as_they_were() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/github_webhooks.ndjson");
    let Ok(text) = std::fs::read_to_string(&file) else {
        // The data is no part of the sources.
        eprintln!("{} is not there: not tested", file.display());
        return;
    };
    let fixture = Fixture::new("webhooks");
    fixture.sql("SELECT sequin.create_stream('a'), sequin.create_stream('b')");
    let lines: Vec<String> = (text.lines().filter(|line| !line.is_empty()).enumerate())
        .map(|(n, line)| {
            format!("{{\"key\": \"github.{n}\", \"data\": {line}, \"headers\": {{\"n\": {n}}}}}\n")
        })
        .collect();
    let path = fixture.home.path().join("lines.jsonl");
    std::fs::write(&path, lines.concat()).unwrap();
    let sent = fixture.ok(&["message", "send", "a", "--from", path.to_str().unwrap()]);
    assert_eq!(sent.trim(), lines.len().to_string());
    copy_by_jsonl(&fixture);
}

const GOOD: &str = "{\"key\": \"k\", \"data\": 1}\n";

fn a_bad_line_is_named_and_says_where_it_stands() {
    let fixture = Fixture::new("bad_line");
    fixture.sql("SELECT sequin.create_stream('a')");
    let input = GOOD.repeat(10_001) + "\n{\"key\": \"k\"}\n";
    let run = fixture.run_with(&["message", "send", "a", "--from", "-"], input.as_bytes());
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("line 10003 is no message") && run.err.contains("data"), "{run:?}");
    let sent: u64 = fixture.ok(&["message", "count", "a"]).trim().parse().unwrap();
    assert!(sent >= 10_000);
    assert!(run.err.contains(&format!("--skip {sent}")), "{run:?}");
    let good = input.replace("\n{\"key\": \"k\"}\n", "");
    let skip = sent.to_string();
    let arguments = ["message", "send", "a", "--from", "-", "--skip", &skip];
    assert_eq!(fixture.run_with(&arguments, good.as_bytes()).code, 0);
    assert_eq!(fixture.ok(&["message", "count", "a"]), "10001\n");
}

fn the_servers_error_names_the_line() {
    let fixture = Fixture::new("line_of_copy");
    fixture.sql("SELECT sequin.create_stream('a')");
    let input = format!("{GOOD}\n{GOOD}{{\"key\": \"no key *\", \"data\": 1}}\n{GOOD}");
    let run = fixture.run_with(&["message", "send", "a", "--from", "-"], input.as_bytes());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("line 4: ") && run.err.contains("nothing was sent"), "{run:?}");
    assert_eq!(fixture.ok(&["message", "count", "a"]), "0\n");
}

fn a_single_transaction_is_all_or_nothing() {
    let fixture = Fixture::new("single");
    fixture.sql("SELECT sequin.create_stream('a')");
    let input = GOOD.repeat(20_000) + "bad\n";
    let run = fixture.run_with(&["message", "send", "a", "-1", "--from", "-"], input.as_bytes());
    assert_eq!(run.code, 2);
    assert!(run.err.contains("nothing was sent"), "{run:?}");
    assert_eq!(fixture.ok(&["message", "count", "a"]), "0\n");
}

fn dedup_ids_and_times_are_taken() {
    let fixture = Fixture::new("ids_in_lines");
    fixture.sql("SELECT sequin.create_stream('a')");
    let input = format!(
        "{GOOD}{}{}{}{GOOD}",
        "{\"key\": \"once\", \"data\": 1, \"dedup_id\": \"x\"}\n",
        "{\"key\": \"once\", \"data\": 1, \"dedup_id\": \"x\"}\n",
        "{\"key\": \"later\", \"data\": 1, \"deliver_at\": \"2100-01-01T00:00:00Z\"}\n",
    );
    let run = fixture.run_with(&["message", "send", "a", "--from", "-"], input.as_bytes());
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(fixture.ok(&["message", "view", "a", "-o", "format {key}"]), "k\nonce\nk\n");
    let mut client = fixture.database.connect();
    let scheduled: i64 =
        client.query_one("SELECT count(*) FROM sequin.scheduled", &[]).unwrap().get(0);
    assert_eq!(scheduled, 1);
}
