#!/usr/bin/env bash
# Installs a peer of the benchmark and prints its version.  bench/peers/install.sh PEER
#   pgmq                                    prints also the SQL file that makes it, since it isn't packaged
#   pgq                                     as Debian has it, for the server of PG_CONFIG: the only one that needs root
#   pg-boss, graphile-worker, procrastinate the job libraries, below target/peers
#   plots                                   no peer: matplotlib, and prints the Python that has it
# One line on stdout, all else on stderr. What can't be had fails, with the reason in the last line.
# What is there already needs no network.
source "$(dirname "$0")/../../scripts/common.sh"
exec 3>&1 1>&2

PEERS=$ROOT/target/peers
LIBRARIES=$ROOT/bench/peers/libraries

say() { echo "$*" >&3; }
need() { command -v "$1" >/dev/null || die "there is no $1"; }

install_pgmq() {
    need cargo
    local crate=$PEERS/pgmq source version
    mkdir -p "$crate"
    cmp -s bench/peers/pgmq/Cargo.toml "$crate/Cargo.toml" || {
        cp bench/peers/pgmq/Cargo.toml "$crate/"
        rm -f "$crate/Cargo.lock"
    }
    touch "$crate/none.rs"
    source=$(pgmq_source --offline 2>/dev/null || pgmq_source) || die "crates.io can't be reached for pgmq"
    version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$source/pgmq.control")
    [ -n "$version" ] && [ -f "$source/sql/pgmq.sql" ] || die "the crate pgmq has no SQL where it used to be: $source"
    # Not the registry's: a server's superuser may read it, whoever's home the registry is in.
    cp "$source/sql/pgmq.sql" "$PEERS/pgmq.sql"
    say "$version $PEERS/pgmq.sql"
}

# Where the unpacked crate has its SQL. The metadata is one line of JSON; of the manifests in it, pgmq's is one.
pgmq_source() {
    local manifest=$PEERS/pgmq/Cargo.toml metadata
    cargo fetch --quiet "$@" --manifest-path "$manifest" || return
    metadata=$(cargo metadata --format-version 1 "$@" --manifest-path "$manifest") || return
    grep -o '"manifest_path":"[^"]*/pgmq-[0-9.]*/Cargo.toml"' <<<"$metadata" | head -n 1 |
        sed -E 's|"manifest_path":"(.*)/Cargo.toml"|\1/src/install/embedded|'
}

install_pgq() {
    find_postgres || die "there is no complete PostgreSQL: PG_CONFIG"
    local package=postgresql-$PG_MAJOR-pgq3 control
    control=$("$INSTALLED_PG_CONFIG" --sharedir)/extension/pgq.control
    if [ ! -f "$control" ] || ! command -v pgqd >/dev/null; then
        need apt-get
        apt_install "$package" || die "apt-get can't install $package"
        [ -f "$control" ] || die "$package is not for the server of $INSTALLED_PG_CONFIG"
    fi
    [ -f "$("$PG_CONFIG" --sharedir)/extension/pgq.control" ] || copy_server
    say "$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$control")"
}

apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$1")
    as_root "${install[@]}" || { as_root apt-get update --quiet && as_root "${install[@]}"; }
}

# The newest releases want a newer Node than Debian has, so that comes from npm too. Newest means: of which the
# registry had all dependencies when package-lock.json was made.
install_node_library() {
    local home=$PEERS/node
    if ! cmp -s "$LIBRARIES/package-lock.json" "$home/installed"; then
        need npm
        mkdir -p "$home"
        cp "$LIBRARIES/package.json" "$LIBRARIES/package-lock.json" "$home/"
        (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund) || die "npm can't install $1"
        cp "$LIBRARIES/package-lock.json" "$home/installed"
    fi
    "$LIBRARIES/node.sh" --version >/dev/null || die "there is no Node for this machine"
    say "$(sed -n 's/^ *"version": "\(.*\)",*$/\1/p' "$home/node_modules/$1/package.json")"
}

# Installs what a file of requirements lists, into one environment for all.
install_python() {
    local requirements=$1 home=$PEERS/python stamp
    stamp=$home/$(basename "$requirements")
    if ! cmp -s "$requirements" "$stamp"; then
        need python3
        python3 -m venv "$home" || die "python3 can't make a virtual environment: python3-venv"
        "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" ||
            die "pip can't install $(basename "$requirements" .txt)"
        cp "$requirements" "$stamp"
    fi
}

mkdir -p "$PEERS"
exec 4>"$PEERS/lock"
flock 4 # two that install at the same time would tread on each other
case ${1:-} in
pgmq | pgq) "install_$1" ;;
pg-boss | graphile-worker) install_node_library "$1" ;;
procrastinate)
    install_python "$LIBRARIES/procrastinate.txt"
    say "$(sed -n 's/^procrastinate==//p' "$LIBRARIES/procrastinate.txt")"
    ;;
plots)
    install_python bench/peers/plots.txt
    say "$PEERS/python/bin/python"
    ;;
*) die "usage: bench/peers/install.sh pgmq|pgq|pg-boss|graphile-worker|procrastinate|plots" ;;
esac
