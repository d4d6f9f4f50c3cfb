#!/usr/bin/env bash
# Connects to the cluster that `make run` started.
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
find_postgres || die "run: make deps"
cluster_find run || die "no cluster is up: run \`make run\` first"
exec "$PG_BIN/psql" sequin "$@"
