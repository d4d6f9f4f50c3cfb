#!/usr/bin/env bash
# cargo, for the server of PG_CONFIG.  scripts/cargo.sh COMMAND [OPTIONS] [-- ARGUMENTS]
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
command=$1
shift
exec cargo "$command" --no-default-features --features "$PG_FEATURE" "$@"
