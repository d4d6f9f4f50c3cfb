//! Dependencies between the crates, and between the folders ("rooms") of src/, go one way only. For a crate its
//! Cargo.toml says what it uses, for a folder of src/ the paths in its files.

#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of src/, and what each may use. Within src/pg a room may use those that are named before it.
const ROOMS: [(&str, &[&str]); 7] = [
    ("error", &[]),
    ("guc", &[]),
    ("pg", &["error", "guc"]),
    ("store", &["error", "guc", "pg"]),
    ("api", &["error", "guc", "pg", "store"]),
    ("worker", &["error", "guc", "pg", "store"]),
    ("entry", &["pg", "store", "worker"]),
];
const ROOMS_OF_PG: [&str; 5] = ["process", "shared", "exec", "wal", "session"];

/// The crates, and which of ours each may use outside of its tests.
const CRATES: [(&str, &[&str]); 6] = [
    ("crates/engine", &[]),
    ("crates/capture", &["sequin-engine"]),
    ("crates/client", &[]),
    ("crates/cli", &["sequin-client"]),
    ("crates/testkit", &[]),
    (".", &["sequin-capture", "sequin-engine"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The paths that begin with `crate::`, as `[pg, exec, spi]`; each of those in braces is one.
fn paths(source: &str) -> Vec<Vec<String>> {
    let code: Vec<&str> =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut all = Vec::new();
    for (begin, _) in code.match_indices("crate::") {
        if code[..begin].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        expand(&code[begin + "crate::".len()..], &[], &mut all);
    }
    all
}

/// Reads one path, and returns the rest of the text.
fn expand<'a>(text: &'a str, before: &[String], all: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest, before, all).trim_start();
            match rest.strip_prefix(',') {
                Some(next) if next.trim_start().starts_with('}') => {
                    return &next.trim_start()[1..];
                }
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path: Vec<String> = before.iter().cloned().chain([text[..end].to_owned()]).collect();
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{') => {
            expand(rest, &path, all)
        }
        _ => {
            all.push(path);
            let rest = &text[end..];
            // `a as b`
            rest.find([',', '}', ';']).map_or("", |next| match rest[..next].trim_start() {
                alias if alias.starts_with("as ") => &rest[next..],
                _ => rest,
            })
        }
    }
}

/// The room of a file of src/, and of src/pg if it is one of that.
fn room_of(file: &Path) -> (String, Option<String>) {
    let parts: Vec<String> = (file.strip_prefix(root().join("src")).unwrap().components())
        .map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned())
        .collect();
    let inner = (parts[0] == "pg" && parts.len() > 2).then(|| parts[1].clone());
    (parts[0].clone(), inner)
}

#[test]
fn the_rooms_of_src_use_only_what_they_may() {
    let mut wrong = BTreeSet::new();
    for file in rust_files(&root().join("src")) {
        let (room, inner) = room_of(&file);
        if room == "lib" || room == "tests" {
            continue;
        }
        let source = read(&file);
        let (_, may) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| {
            panic!("{} is in no room that is known here", file.display());
        });
        for path in paths(&source) {
            // Items at the crate's root are no room.
            let is_room = ROOMS.iter().any(|(name, _)| *name == path[0]);
            if is_room && path[0] != room && !may.contains(&path[0].as_str()) {
                wrong.insert(format!("{room} uses {}: {}", path[0], file.display()));
            }
            let (Some(inner), Some(used)) = (&inner, path.get(1)) else { continue };
            let rank = |name: &str| ROOMS_OF_PG.iter().position(|room| *room == name);
            if path[0] == "pg" && rank(used) > rank(inner) {
                wrong.insert(format!("pg/{inner} uses pg/{used}: {}", file.display()));
            }
        }
        if inner.is_some() && source.contains("super::super") {
            wrong.insert(format!("super::super hides an arrow: {}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_crates_use_only_what_they_may() {
    for (folder, may) in CRATES {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if section == "[dependencies]" && name.starts_with("sequin-") {
                assert!(may.contains(&name), "{folder} uses {name}");
            }
            // Only the extension is built for a server; the others meet it in SQL.
            assert!(folder == "." || !name.starts_with("pgrx"), "{folder} uses {name}");
        }
    }
}

#[test]
fn the_crates_forbid_unsafe_code() {
    for name in ["engine/src/lib.rs", "capture/src/lib.rs", "client/src/lib.rs", "cli/src/main.rs"]
    {
        let source = read(&root().join("crates").join(name));
        assert!(source.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

/// The words of a text, names and paths among them, that are meant.
fn named<'a>(text: &'a str, is_meant: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !(c.is_alphanumeric() || "_/.-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(move |word| is_meant(word))
}

#[test]
fn the_tests_of_the_invariants_are_there() {
    let folders = ["tests", "crates"].map(|folder| rust_files(&root().join(folder)));
    let mut all: BTreeSet<String> = BTreeSet::new();
    for source in folders.iter().flatten().map(|file| read(file)) {
        let names = source.match_indices("fn ").map(|(at, _)| &source[at + 3..]);
        all.extend(names.map(|rest| rest.split(['(', '<']).next().unwrap_or_default().to_owned()));
    }
    for folder in ["pg_test/specs", "pg_test/sql"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().path();
            all.insert(name.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    let text = read(&root().join("docs/invariants.md"));
    let rows = text.lines().filter(|line| line.starts_with("| I") || line.starts_with("- **"));
    let mut missing = Vec::new();
    for row in rows {
        // Only the last column names tests.
        let tests = row.rsplit(" | ").next().unwrap_or_default();
        let is_test =
            |word: &str| word != "pg_regress" && word.contains('_') && !word.contains(['/', '.']);
        missing.extend(named(tests, is_test).filter(|name| !all.contains(*name)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_files_that_the_documents_name_are_there() {
    let mut missing = Vec::new();
    const DOCUMENTS: [&str; 11] = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/benchmarks.md",
        "docs/cli.md",
        "docs/decisions/engine.md",
        "docs/invariants.md",
        "docs/limits.md",
        "docs/operations.md",
        "docs/sources.md",
    ];
    for document in DOCUMENTS {
        let text = read(&root().join(document));
        let folder = root().join(document).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let files = links.filter(|link| !link.is_empty() && !link.starts_with("http"));
        missing.extend(
            files.filter(|file| !folder.join(file).exists()).map(|f| format!("{document}: {f}")),
        );
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = |word: &str| {
                ["src/", "crates/", "tests/", "docs/", "pg_test/"]
                    .iter()
                    .any(|r| word.starts_with(r))
            };
            let paths = named(quoted, is_path).filter(|path| !path.contains("**"));
            missing.extend(
                paths
                    .filter(|path| !root().join(path).exists())
                    .map(|p| format!("{document}: {p}")),
            );
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn paths_are_found_in_all_their_forms() {
    let found = |source: &str| -> Vec<String> {
        paths(source).into_iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(
        found("use crate::pg::exec::{spi::{Access, Row}, role as r, scan,};"),
        ["pg::exec::spi::Access", "pg::exec::spi::Row", "pg::exec::role", "pg::exec::scan"]
    );
    assert_eq!(
        found("let a = crate::pg::now() + crate::error::X; // crate::api"),
        ["pg::now", "error::X"]
    );
    assert_eq!(
        found("use crate::{pg, store::{self, acks}};"),
        ["pg", "store::self", "store::acks"]
    );
}
