#!/usr/bin/env bash
# Builds the extension for the server of PG_CONFIG. Its files are then under target/package/pgN, in a tree as the
# server has it. PROFILE=dev builds faster, for trying things out.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
package=target/package/$PG_FEATURE
rm -rf "$package"
cargo pgrx package --profile "${PROFILE:-release}" --no-default-features --features "$PG_FEATURE" \
    --pg-config "$PG_CONFIG" --out-dir "$package"
