#!/usr/bin/env bash
# Builds the extension for the server of PG_CONFIG: the library, the control file, and the scripts to create and update it
# are then in target/package/pgN. PROFILE=dev builds faster, for trying things out.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"

profile=${PROFILE:-release} package=target/package/$PG_FEATURE version=$(sequin_version)
folder=$profile
[ "$profile" != dev ] || folder=debug
cargo build --profile "$profile" --lib --no-default-features --features "$PG_FEATURE"
rm -rf "$package"
mkdir -p "$package"
cp "${CARGO_TARGET_DIR:-target}/$folder/libsequin.so" "$package/sequin.so"
cp sql/sequin--*.sql "$package/"
sed "s/@CARGO_VERSION@/$version/" sequin.control >"$package/sequin.control"
