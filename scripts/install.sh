#!/usr/bin/env bash
# Builds the extension in release mode and installs it into the server of PG_CONFIG.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
sudo=()
am_root || sudo=(--sudo)
note "installing sequin into PostgreSQL $PG_MAJOR ($PG_CONFIG)"
# PROFILE=dev builds faster, for trying things out.
build=(--profile "${PROFILE:-release}" --no-default-features --features "$PG_FEATURE")
cargo build --lib "${build[@]}"
# A server that runs has the library mapped: copying over it would crash that server, a new file does not.
as_root rm -f "$("$PG_CONFIG" --pkglibdir)/sequin.so"
exec cargo pgrx install "${build[@]}" --pg-config "$PG_CONFIG" "${sudo[@]}"
