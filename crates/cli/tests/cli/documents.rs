//! The commands in README.md and docs/cli.md work, in the order in which they stand there.

use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Fixture, trials};

pub fn tests() -> Vec<Trial> {
    trials![the_readmes_commands_work, the_commands_of_docs_cli_work]
}

fn the_readmes_commands_work() {
    run_all("README.md", "of_readme", 9);
}

fn the_commands_of_docs_cli_work() {
    run_all("docs/cli.md", "of_docs_cli", 9);
}

fn run_all(document: &str, database: &str, at_least: usize) {
    let fixture = Fixture::new(database);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<&str> = lines.filter(|line| line.contains("sequin ")).collect();
    assert!(commands.len() >= at_least, "{commands:?}");
    for line in commands {
        let run = fixture.shell(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }
}
