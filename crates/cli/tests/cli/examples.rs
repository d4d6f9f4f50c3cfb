//! The help of every command has an example, and every example works.

use std::fs;

use libtest_mimic::Trial;

use crate::harness::{Fixture, bare, run, trials};

pub fn tests() -> Vec<Trial> {
    trials![every_command_has_an_example_that_works]
}

/// What the examples are about. Dropped and made anew for each command.
const OBJECTS: &str = "
DO $$ BEGIN
    PERFORM sequin.drop_source(name) FROM sequin.sources;
END $$;
DO $$ BEGIN
    PERFORM sequin.drop_stream(name, force => true) FROM sequin.streams;
END $$;
DROP TABLE IF EXISTS public.accounts;
CREATE TABLE public.accounts (id int PRIMARY KEY, balance numeric);
INSERT INTO public.accounts VALUES (1, 100), (2, 50);
DO $$ BEGIN
    PERFORM sequin.create_stream('orders'), sequin.create_stream('archive');
    PERFORM sequin.create_consumer('orders', 'billing'), sequin.create_consumer('orders', 'audit');
    PERFORM sequin.publish('orders', 'order.eu.' || n, jsonb_build_object('amount', n)) FROM generate_series(1, 5) n;
END $$;
";
/// Two finished messages, and one in flight.
const DELIVERIES: &str = "SELECT sequin.ack('billing', array(SELECT ack_id FROM sequin.receive('billing', 3, wait => '1 min') ORDER BY seq LIMIT 2))";

/// These can't be made in the transaction of what they capture.
const SOURCE: &str = "SELECT sequin.create_source('bank', 'archive', tables => '{accounts}')";

const MESSAGES: &str = "{\"key\": \"order.eu.8\", \"data\": {\"amount\": 8}}\n\n{\"key\": \"order.eu.9\", \"data\": 9, \"headers\": {\"a\": 1}}\n";

/// All commands that have none below them, as words.
fn leaves(before: &[String], all: &mut Vec<Vec<String>>) {
    let help = run(bare().args(before).arg("--help"), b"").out;
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let names = commands.lines().take_while(|line| line.starts_with("  "));
    let names: Vec<&str> = names
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    if names.is_empty() {
        all.push(before.to_vec());
    }
    for name in names {
        let path: Vec<String> = before.iter().cloned().chain([name.to_owned()]).collect();
        leaves(&path, all);
    }
}

fn every_command_has_an_example_that_works() {
    let fixture = Fixture::new("examples");
    let mut all = Vec::new();
    leaves(&[], &mut all);
    assert!(all.len() > 40, "{} commands", all.len());
    for words in all {
        let help = run(bare().args(&words).arg("--help"), b"").out;
        let examples: Vec<&str> =
            help.lines().filter(|line| line.starts_with("  sequin ")).map(str::trim).collect();
        assert!(!examples.is_empty(), "{words:?} has no example");
        for example in &examples {
            assert!(example.contains(words.last().unwrap()), "{words:?}: {example}");
        }
        set_up(&fixture, words[0] == "source" || words.join(" ") == "check source");
        for example in examples {
            let run = fixture.shell(example);
            // The ack_id of an example is an old one.
            let is_late = example.contains("4611686018427387905");
            assert_eq!(run.code, if is_late { 4 } else { 0 }, "{example}: {run:?}");
        }
    }
}

fn set_up(fixture: &Fixture, with_source: bool) {
    fixture.sql(OBJECTS);
    fixture.sql(DELIVERIES);
    fixture.until(&["consumer", "info", "billing", "-o", "format <{ack_floor}>"], "<2>");
    if with_source {
        fixture.sql(SOURCE);
        fixture.until(&["source", "info", "bank"], "streaming");
    }
    let contexts = fixture.home.path().join(".sequin/contexts");
    let _ = fs::remove_dir_all(fixture.home.path().join(".sequin"));
    fs::create_dir_all(&contexts).unwrap();
    fs::write(
        contexts.join("local.json"),
        "{\"name\": \"local\", \"connection\": \"connect_timeout=10\"}",
    )
    .unwrap();
    fs::write(fixture.home.path().join("messages.jsonl"), MESSAGES).unwrap();
}
