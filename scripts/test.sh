#!/usr/bin/env bash
# Everything that can be checked. A failed step does not keep the next ones from running.  scripts/test.sh [lint]
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"

# One profile and one set of features for all of it, so that cargo compiles things once. The tests that use the
# extension from outside run with the release build, as it is shipped.
features=(--no-default-features --features "$PG_FEATURE pg_test")
passed=0 failed=()

step() {
    local name=$1 begun=$SECONDS
    shift
    note "$name"
    if "$@"; then
        passed=$((passed + 1))
        echo "$name: passed in $((SECONDS - begun)) s"
    else
        failed+=("$name")
        echo "$name: FAILED"
    fi
}

# The tests that run inside a server: it needs a directory that its user can write. cargo-pgrx copies the library over
# what is there, and a server may run that has it mapped: with the name free, it makes a new file.
pgrx_test() {
    local directory status=0
    rm -f "$("$PG_CONFIG" --pkglibdir)/sequin.so"
    directory=$(mktemp -d /tmp/sequin-pgrx.XXXXXX)
    as_root chown "$SERVER_USER" "$directory"
    cargo pgrx test "$PG_FEATURE" "${features[@]}" --runas "$SERVER_USER" --pgdata "$directory" || status=$?
    as_root rm -rf "$directory"
    return $status
}

step "format" cargo fmt --all -- --check
step "clippy" cargo clippy --workspace --all-targets "${features[@]}" -- -D warnings
if [ "${1:-}" != lint ]; then
    trap "scripts/bystander.sh remove" EXIT
    step "pure tests" cargo test -p sequin-engine -p sequin-capture -p sequin-testkit -p sequin-client
    step "release build" scripts/install.sh
    step "a server that runs meanwhile" scripts/bystander.sh start
    step "tests in the server" pgrx_test
    step "install script" scripts/schema.sh check
    step "release install" scripts/install.sh
    step "pg_regress and isolation specs" scripts/regress.sh
    step "black-box tests" cargo test --test black_box "${features[@]}"
    step "the command sequin" cargo test -p sequin-cli
    step "the server that ran meanwhile" scripts/bystander.sh check
fi

echo
[ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[@]}"
echo "$passed passed, ${#failed[@]} failed"
[ ${#failed[@]} = 0 ]
