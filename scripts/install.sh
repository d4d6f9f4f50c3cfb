#!/usr/bin/env bash
# Builds the extension and installs it into the server of PG_CONFIG.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
note "installing sequin into PostgreSQL $PG_MAJOR ($PG_CONFIG)"
scripts/build.sh
# A server that runs has the library mapped: copying over it would crash that server; `install` makes a new file.
package=$ROOT/target/package/$PG_FEATURE
(cd "$package" && find . -type f) | while read -r file; do
    as_root install -D -m 644 "$package/$file" "/$file"
done
