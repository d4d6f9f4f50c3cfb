#!/usr/bin/env bash
# Clients publish and work while the server suffers, for SECONDS_TO_RUN (600); a checker judges what they saw. SEED=n
# makes the choices of an earlier run again. A history that breaks an invariant is kept, and the status is 1.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
export SECONDS_TO_RUN=${SECONDS_TO_RUN:-600}
scripts/cargo.sh test --features pg_test --test black_box -- torture::histories || exit 1
