//! The README's SQL runs as it stands there.

use libtest_mimic::Trial;

use crate::harness::{database_of, logical_cluster, trials};

pub fn tests() -> Vec<Trial> {
    trials![every_sql_block_of_the_readme_runs]
}

fn every_sql_block_of_the_readme_runs() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks = sql_blocks(&readme);
    assert!(!blocks.is_empty(), "the README has no ```sql block");
    let database = database_of(logical_cluster(), "tour");
    let mut client = database.connect();
    for (line, block) in blocks {
        // The extension is there already; the README creates it.
        let block =
            block.replace("CREATE EXTENSION sequin", "CREATE EXTENSION IF NOT EXISTS sequin");
        for statement in statements(&block) {
            if let Err(error) = client.batch_execute(statement) {
                panic!("README.md, block of line {line}: {error:?}\n{statement}");
            }
        }
    }
}

/// The blocks marked ```sql, each with the number of its first line.
fn sql_blocks(readme: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (index, line) in readme.lines().enumerate() {
        match &mut block {
            None if line.trim() == "```sql" => block = Some((index + 2, String::new())),
            Some(_) if line.trim() == "```" => blocks.extend(block.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// A block's statements, so that each is a transaction of its own, as in psql: they end at a `;` at a line's end.
/// A body in $$ is one piece.
fn statements(block: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut begin, mut position, mut quoted) = (0, 0, false);
    for line in block.split_inclusive('\n') {
        position += line.len();
        quoted ^= line.matches("$$").count() % 2 == 1;
        let code = line.split("--").next().unwrap_or_default();
        if !quoted && code.trim_end().ends_with(';') {
            statements.push(&block[begin..position]);
            begin = position;
        }
    }
    if !block[begin..].trim().is_empty() {
        statements.push(&block[begin..]);
    }
    statements
}
