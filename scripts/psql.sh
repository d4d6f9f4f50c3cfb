#!/usr/bin/env bash
# Connects to the cluster that `make run` started.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
cluster=$(readlink -f "$ROOT/target/run")
[ -f "$cluster/port" ] || die "no cluster is up: run \`make run\` first"
exec "$PG_BIN/psql" -h "$cluster" -p "$(cat "$cluster/port")" -U postgres sequin "$@"
