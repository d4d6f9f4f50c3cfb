//! Which peers are to be had here, and in which version: bench/peers/install.sh gets them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{library, pgmq, pgq};

pub struct Peer {
    pub name: &'static str,
    pub version: String,
    /// What is to be run in a database, of a peer that needs that.
    pub file: Option<PathBuf>,
}

/// As the report calls them, and as install.sh does.
const NAMES: [(&str, &str); 5] = [
    (pgmq::NAME, "pgmq"),
    (pgq::NAME, "pgq"),
    (library::NAMES[0], library::NAMES[0]),
    (library::NAMES[1], library::NAMES[1]),
    (library::NAMES[2], library::NAMES[2]),
];

type Found = Result<Peer, (&'static str, String)>;

static FOUND: OnceLock<Vec<Found>> = OnceLock::new();

/// Those that are there. They are installed when they are first asked for.
pub fn peers() -> impl Iterator<Item = &'static Peer> {
    let found = FOUND.get_or_init(|| NAMES.map(|(name, argument)| install(name, argument)).into());
    found.iter().filter_map(|found| found.as_ref().ok())
}

/// For the report: versions, and why a peer isn't there. Nothing if nobody has asked for peers.
pub fn circumstances() -> Vec<(&'static str, String)> {
    let found = FOUND.get().into_iter().flatten();
    let line = |found: &Found| match found {
        Ok(peer) => ("peer", format!("{} {}", peer.name, peer.version)),
        Err((name, reason)) => ("peer", format!("{name} skipped: {reason}")),
    };
    found.map(line).collect()
}

fn install(name: &'static str, argument: &str) -> Found {
    eprintln!("installing {name}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peers/install.sh");
    let output = Command::new(script).arg(argument).output();
    let output = output.map_err(|error| (name, format!("{script}: {error}")))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let reason = || errors.trim().lines().last().unwrap_or("no reason given").to_owned();
    if !output.status.success() {
        eprintln!("{errors}peer {name} skipped: {}", reason());
        return Err((name, reason()));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let mut words = line.split_whitespace();
    let version = words.next().unwrap_or("of unknown version").into();
    Ok(Peer { name, version, file: words.next().map(PathBuf::from) })
}
