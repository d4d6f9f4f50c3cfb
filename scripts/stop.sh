#!/usr/bin/env bash
# Stops the cluster that `make run` started, and removes it.
source "$(dirname "$0")/common.sh"
source scripts/cluster.sh
[ -e target/run ] || [ -L target/run ] || { echo "no cluster is up"; exit 0; }
find_postgres || die "run: make deps"
cluster_remove run
