#!/usr/bin/env bash
# Changes the dispatcher's rules in one place after the other, and tells which changes no test of their crate notices: some
# hours. docs/mutants.md has the last figures.   scripts/mutants.sh [OPTIONS of cargo mutants, such as --shard 0/8]
source "$(dirname "$0")/common.sh"
cargo mutants --version >/dev/null 2>&1 || cargo install cargo-mutants --locked --version 27.1.0
exec cargo mutants --package sequin-engine --output target "$@" -- --lib dispatcher::
