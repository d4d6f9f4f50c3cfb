#!/usr/bin/env bash
# On each other version of PostgreSQL: builds, and runs the SQL and isolation tests and some of the black-box tests. All of
# them: make test PG_CONFIG=$(scripts/fetch_postgres.sh 18).   scripts/test_versions.sh [VERSION...]
set -euo pipefail
cd "$(dirname "$0")/.."

# What depends most on the server: its start and end, WAL, replication slots, dumps; and the README's tour.
smoke=(tour:: crash:: leases:: transactions:: promotion:: dump_and_restore sources::backfill::each_row sources::failover)

# Runs in a shell of its own: in one whose result is asked for, a failed command would not end the rest.
test_version() {
    local filter
    PG_CONFIG=$(scripts/fetch_postgres.sh "$1")
    export PG_CONFIG
    scripts/deps.sh
    scripts/install.sh
    scripts/regress.sh
    for filter in "${smoke[@]}"; do
        scripts/cargo.sh test --features pg_test --test black_box -- "$filter"
    done
}

[ "${1:-}" != --only ] || {
    test_version "$2"
    exit
}
[ $# != 0 ] || set -- 14 16 17 18
results='' failed=0
for version in "$@"; do
    begun=$SECONDS result=passed
    "scripts/$(basename "$0")" --only "$version" || result=FAILED failed=$((failed + 1))
    results+="PostgreSQL $version: $result in $((SECONDS - begun)) s"$'\n'
done
printf '\n%s%s passed, %s failed\n' "$results" $(($# - failed)) "$failed"
[ "$failed" = 0 ]
