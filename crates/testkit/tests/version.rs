//! Wherever the version is written, it is the same.

#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::fs;
use std::path::Path;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_file_says_the_same_version() {
    let expected = [
        ("META.json", format!("\"version\": \"{VERSION}\",\n    \"maintainer\"")),
        ("META.json", format!("\"file\": \"sql/sequin--{VERSION}.sql\"")),
        (
            "META.json",
            format!("\"docfile\": \"README.md\",\n            \"version\": \"{VERSION}\""),
        ),
        ("packaging/debian/changelog", format!("sequin ({VERSION}-1) ")),
        ("packaging/debian/NEWS", format!("sequin ({VERSION}-1) ")),
        ("CHANGELOG.md", format!("\n## {VERSION}")),
        ("README.md", format!("_{VERSION}-1_amd64.deb\n")),
        ("README.md", format!("What this version ({VERSION}) does not have")),
        ("fuzz/Cargo.lock", format!("name = \"sequin-engine\"\nversion = \"{VERSION}\"")),
    ];
    for (file, text) in expected {
        assert!(read(file).contains(&text), "{file} has no {text:?}");
    }
    let first = read("packaging/debian/changelog");
    assert!(first.starts_with(&format!("sequin ({VERSION}-")), "the changelog's first entry");
}

/// From each version that was released, one script leads to the next, and in the end to this one.
#[test]
fn an_upgrade_script_leads_from_each_released_version() {
    let released = read("sql/released.sha256");
    let versions: Vec<&str> = released
        .lines()
        .map(|line| line.rsplit_once("--").unwrap().1.trim_end_matches(".sql"))
        .chain([VERSION])
        .collect();
    assert!(versions.len() > 1, "no version was released");
    for pair in versions.windows(2) {
        read(&format!("sql/sequin--{}--{}.sql", pair[0], pair[1]));
    }
}
