#!/usr/bin/env bash
# pg_regress and pg_isolation_regress, with the installed extension, on a private cluster.
# Every file of pg_test/sql and pg_test/specs is run; setup.sql first.   scripts/regress.sh [--accept] [NAME...]
# With names, only these (and setup.sql). With --accept, what comes out becomes what is expected: read `git diff`.
# DISTURBED=1 has all caches invalidated all the time, which must change nothing.
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
source scripts/disturb.sh
find_postgres || die "run: make deps"

# The names of a folder's tests, setup first, narrowed to those asked for.
names() {
    local folder=$1 suffix=$2 name
    shift 2
    for name in setup $(cd "pg_test/$folder" && ls -- *."$suffix" 2>/dev/null | sed "s/\.$suffix$//; /^setup$/d"); do
        [ -f "pg_test/$folder/$name.$suffix" ] || continue
        if [ $# = 0 ] || [ "$name" = setup ] || printf '%s\n' "$@" | grep -qx -- "$name"; then echo "$name"; fi
    done
}

# run PROGRAM DATABASE [OPTION...] TEST...
run() {
    local driver name output=$ROOT/target/pg_test/$1
    driver=$(pgxs_test_program "$1")
    rm -rf "$output"
    mkdir -p "$output" pg_test/expected
    # Without an expected result, the driver would give up on the tests that follow.
    for name in "${@:3}"; do
        [[ $name == --* ]] || [ -f "pg_test/expected/$name.out" ] || : >"pg_test/expected/$name.out"
    done
    set -- "$driver" --bindir="$PG_BIN" --inputdir="$ROOT/pg_test" --outputdir="$output" --dbname="$2" "${@:3}"
    # From 16 on, the folder of the expected results is said apart.
    if "$driver" --help | grep -q -- --expecteddir; then set -- "$@" --expecteddir="$ROOT/pg_test"; fi
    if ! "$@" --host="$PGHOST" --port="$PGPORT" --user=postgres; then
        if [ -n "$accept" ]; then
            cp "$output"/results/*.out pg_test/expected/
            return
        fi
        [ ! -f "$output/regression.diffs" ] || cat "$output/regression.diffs"
        failed=yes
    fi
}

cluster_start regress "max_worker_processes = 32" "wal_level = logical" "max_prepared_transactions = 10" "log_line_prefix = '%m [%p] %b %d '"
trap 'cluster_remove regress' EXIT
failed='' accept=''
if [ "${1:-}" = --accept ]; then
    accept=yes
    shift
fi
if [ -n "${DISTURBED:-}" ]; then
    disturb sequin_regress &
    disturb sequin_isolation &
fi
mapfile -t sql < <(names sql sql "$@")
mapfile -t specs < <(names specs spec "$@")
[ ${#sql[@]} = 0 ] || run regress/pg_regress sequin_regress "${sql[@]}"
# A step that never ends fails after twice this many seconds, not after six minutes.
export PGISOLATIONTIMEOUT=30
[ ${#specs[@]} = 0 ] || run isolation/pg_isolation_regress sequin_isolation --load-extension=sequin "${specs[@]}"
if [ -n "$failed" ]; then
    note "the end of the server's log"
    tail -n 40 "$CLUSTER/log"
    exit 1
fi
