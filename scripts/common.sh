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

# Sets INSTALLED_PG_CONFIG, the server that was asked for: a PG_CONFIG that is given, else the one on PATH, else Debian's
# newest. And PG_CONFIG, PG_BIN, PG_MAJOR, PG_FEATURE and PGRX_HOME, which are those of a private copy of it. Fails where
# there is none.
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
    INSTALLED_PG_CONFIG=$(command -v "$found")
    PG_MAJOR=$("$INSTALLED_PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    PG_FEATURE=pg$PG_MAJOR
    use_private_server
    PG_BIN=$("$PG_CONFIG" --bindir)
    PGRX_HOME=$ROOT/target/pgrx
    export PG_CONFIG PGRX_HOME
    configure_pgrx
}

# PostgreSQL finds its share and lib folders from where its own program lies: so what is run, tested and measured here is
# a copy of the server's installation under target/, and no server that runs elsewhere has a file of it mapped. Each
# installation has a copy of its own. Sets PRIVATE_SERVER, where it is, and PG_CONFIG.
use_private_server() {
    local servers=$ROOT/target/server origin bin
    for PRIVATE_SERVER in "$servers"/*; do
        [ -f "$PRIVATE_SERVER/origin" ] || continue
        if [[ $(readlink -f "$INSTALLED_PG_CONFIG") == "$(readlink -f "$PRIVATE_SERVER")"/* ]]; then
            # A script that another script has called, with its PG_CONFIG.
            PG_CONFIG=$INSTALLED_PG_CONFIG
            INSTALLED_PG_CONFIG=$(head -n 1 "$PRIVATE_SERVER/origin")
            return
        fi
    done
    PRIVATE_SERVER=$servers/$PG_MAJOR-$(cksum <<<"$INSTALLED_PG_CONFIG" | cut -d ' ' -f 1)
    bin=$("$INSTALLED_PG_CONFIG" --bindir)
    origin=$(printf '%s\n' "$INSTALLED_PG_CONFIG" "$("$INSTALLED_PG_CONFIG" --version)" "$(stat -c %Y "$bin/postgres")")
    [ "$(cat "$PRIVATE_SERVER/origin" 2>/dev/null)" = "$origin" ] || copy_server
    PG_CONFIG=$PRIVATE_SERVER/$(realpath --relative-to="$(server_prefix)" "$bin")/pg_config
    printf '%s\n' "$origin" >"$PRIVATE_SERVER/origin"
}

# The folder that has all of an installation in it: /usr for Debian's.
server_prefix() {
    local prefix
    prefix=$("$INSTALLED_PG_CONFIG" --bindir)
    while [ "$prefix" != / ] && [[ $("$INSTALLED_PG_CONFIG" --sharedir) != "$prefix"/* ||
        $("$INSTALLED_PG_CONFIG" --pkglibdir) != "$prefix"/* ]]; do
        prefix=$(dirname "$prefix")
    done
    echo "$prefix"
}

# Copies the installation of INSTALLED_PG_CONFIG, without sequin, to PRIVATE_SERVER: if the server's user can't reach
# target/ (a home that only root reads), that is a link to a folder elsewhere.
copy_server() {
    local prefix folder
    mkdir -p "$(dirname "$PRIVATE_SERVER")"
    if [ ! -e "$PRIVATE_SERVER" ]; then
        rm -f "$PRIVATE_SERVER"
        if as_server test -x "$(dirname "$PRIVATE_SERVER")"; then
            mkdir "$PRIVATE_SERVER"
        else
            folder=$(mktemp -d "/tmp/sequin-server-$PG_MAJOR.XXXXXX")
            chmod 755 "$folder"
            ln -s "$folder" "$PRIVATE_SERVER"
        fi
    fi
    prefix=$(server_prefix)
    for folder in --bindir --pkglibdir --sharedir; do
        folder=$(realpath --relative-to="$prefix" "$("$INSTALLED_PG_CONFIG" $folder)")
        # Existing files are replaced, not written into: a server may run that has them mapped.
        tar -C "$prefix" --exclude=sequin.so --exclude='sequin--*' --exclude=sequin.control -cf - "$folder" |
            tar -C "$PRIVATE_SERVER" -xf - --no-same-owner
    done
    folder=$("$INSTALLED_PG_CONFIG" --includedir)
    mkdir -p "$PRIVATE_SERVER/$(dirname "$(realpath --relative-to="$prefix" "$folder")")"
    ln -sfn "$folder" "$PRIVATE_SERVER/$(realpath --relative-to="$prefix" "$folder")"
}

# pgrx's build script, and its tool, learn here where the servers are: one line for each major version. It asks all of
# them, so those that are no longer there are left out.
configure_pgrx() {
    local config=$PGRX_HOME/config.toml fresh feature path
    mkdir -p "$PGRX_HOME"
    # A name of its own: another script may do the same at this moment.
    fresh=$config.$$
    {
        echo '[configs]'
        sed -nE 's/^(pg[0-9]+) = "(.*)"$/\1 \2/p' "$config" 2>/dev/null | while read -r feature path; do
            if [ "$feature" != "$PG_FEATURE" ] && [ -x "$path" ]; then echo "$feature = \"$path\""; fi
        done
        echo "$PG_FEATURE = \"$PG_CONFIG\""
    } | sort >"$fresh"
    if cmp -s "$fresh" "$config"; then rm "$fresh"; else mv "$fresh" "$config"; fi
}

# The version of the extension.
sequin_version() { sed -nE '/^\[workspace.package\]/,/^$/s/^version = "(.*)"/\1/p' Cargo.toml; }
