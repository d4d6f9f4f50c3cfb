#!/usr/bin/env bash
# On each other version of PostgreSQL: builds, and runs the SQL and isolation tests and some of the black-box tests; then
# pg_upgrade, from the oldest of them to the newest. All tests: make test PG_CONFIG=$(scripts/fetch_postgres.sh 18).
#   scripts/test_versions.sh [VERSION...]     18-assert is one that checks its own assertions: SQL and isolation tests only
set -euo pipefail
cd "$(dirname "$0")/.."

# What depends most on the server: its start and end, WAL, decoding and its caches, replication slots, open transactions,
# workers, dumps; and the README's tour.
smoke=(tour:: crash:: leases:: transactions:: promotion:: dump_and_restore sources::backfill::each_row sources::failover
    sources::rewritten dedup::tables scheduled::a_ retention::a_)

black_box() { scripts/cargo.sh test --features pg_test --test black_box -- "$1"; }

fetch() {
    case $1 in
    *-assert) scripts/assert_postgres.sh ;;
    *) scripts/fetch_postgres.sh "$1" ;;
    esac
}

# The steps run in a shell of their own: in one whose result is asked for, a failed command would not end the rest.
case ${1:-} in
--version)
    PG_CONFIG=$(fetch "$2")
    export PG_CONFIG
    scripts/deps.sh
    scripts/install.sh
    scripts/regress.sh
    [[ $2 == *-assert ]] || for filter in "${smoke[@]}"; do black_box "$filter"; done
    exit
    ;;
--upgrade)
    OLD_PG_CONFIG=$(
        PG_CONFIG=$(fetch "$2")
        source scripts/common.sh
        find_postgres && echo "$PG_CONFIG"
    )
    PG_CONFIG=$(fetch "$3")
    export OLD_PG_CONFIG PG_CONFIG
    black_box faults::upgrade::
    exit
    ;;
esac

[ $# != 0 ] || set -- 14 16 17 18
results='' failed=0
step() {
    local name=$1 begun=$SECONDS result=passed
    shift
    "scripts/$(basename "$0")" "$@" || result=FAILED failed=$((failed + 1))
    results+="$name: $result in $((SECONDS - begun)) s"$'\n'
}
for version in "$@"; do step "PostgreSQL $version" --version "$version"; done
oldest=$1 newest=${*: -1}
[ "$oldest" = "$newest" ] || step "pg_upgrade from $oldest to $newest" --upgrade "$oldest" "$newest"
printf '\n%s%s failed\n' "$results" "$failed"
[ "$failed" = 0 ]
