# shellcheck shell=bash
# Sourced by the other scripts: where things are, and who runs what.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# With it set, PostgreSQL's clients would see Rust backtraces in DETAIL.
unset RUST_BACKTRACE

note() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

am_root() { [ "$(id -u)" = 0 ]; }
as_root() { if am_root; then "$@"; else sudo "$@"; fi; }

# PostgreSQL refuses to run as root. Runs in / because the server's user may not be able to enter this directory.
if am_root; then SERVER_USER=${SERVER_USER:-postgres}; else SERVER_USER=$(id -un); fi
as_server() {
    if am_root; then (cd / && runuser -u "$SERVER_USER" -- "$@"); else (cd / && "$@"); fi
}

# The test driver of PostgreSQL's own test suite, as postgresql-server-dev-N installs it.
pgxs_test_program() { echo "$("$PG_CONFIG" --pgxs | sed 's|/makefiles/pgxs.mk$||')/test/$1"; }

# True for a pg_config whose server, headers and test programs are all there.
complete_pg_config() {
    local PG_CONFIG=$1
    [ -n "$PG_CONFIG" ] && "$PG_CONFIG" --version >/dev/null 2>&1 &&
        [ -x "$("$PG_CONFIG" --bindir)/postgres" ] && [ -x "$("$PG_CONFIG" --bindir)/psql" ] &&
        [ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ] &&
        [ -x "$(pgxs_test_program regress/pg_regress)" ]
}

# Sets PG_CONFIG, PG_BIN, PG_MAJOR, PG_FEATURE and PGRX_HOME, or fails. A PG_CONFIG that is given is taken as it is;
# else the one on PATH, else Debian's newest.
find_postgres() {
    local candidate found=
    for candidate in "${PG_CONFIG:-$(command -v pg_config || true)}" \
        $([ -n "${PG_CONFIG:-}" ] || ls -vr /usr/lib/postgresql/*/bin/pg_config 2>/dev/null); do
        if complete_pg_config "$candidate"; then
            found=$candidate
            break
        fi
    done
    [ -n "$found" ] || return 1
    PG_CONFIG=$(command -v "$found")
    PG_BIN=$("$PG_CONFIG" --bindir)
    PG_MAJOR=$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    PG_FEATURE=pg$PG_MAJOR
    find_pgrx_home
    export PG_CONFIG PGRX_HOME
}

# pgrx keeps one pg_config for each major version. Where it already keeps another one, ours gets a home of its own
# under target/, so that nobody's other projects change.
find_pgrx_home() {
    local configured
    PGRX_HOME=${PGRX_HOME:-$HOME/.pgrx}
    configured=$(pgrx_configured)
    if [ -n "$configured" ] && [ "$("$configured" --bindir 2>/dev/null)" != "$PG_BIN" ]; then
        PGRX_HOME=$ROOT/target/pgrx
    fi
}
pgrx_configured() { sed -n "s/^$PG_FEATURE *= *[\"']\(.*\)[\"']/\1/p" "$PGRX_HOME/config.toml" 2>/dev/null || true; }
