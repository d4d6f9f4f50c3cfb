#!/usr/bin/env bash
# Installs what is missing to build and run: PostgreSQL with its headers, libclang, a C compiler; with `test`, to test as
# well: cargo-pgrx; with `versions`, to fetch other versions of PostgreSQL: pip. Each step is skipped at once when its
# result is already there.   scripts/deps.sh [test|versions]
source "$(dirname "$0")/common.sh"

command -v cargo >/dev/null || die "cargo is not on PATH: install Rust first (https://rustup.rs)"

updated=
apt_install() {
    command -v apt-get >/dev/null ||
        die "missing: $*. This is no Debian or Ubuntu: install their equivalents, or set PG_CONFIG=/path/to/pg_config"
    note "installing $*"
    # sudo drops the environment, so it is said again behind it.
    local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
    if [ -z "$updated" ]; then
        "${apt[@]}" update
        updated=yes
    fi
    "${apt[@]}" install -y --no-install-recommends "$@"
}

# The major version to install headers for: of the PG_CONFIG that was asked for, else of the newest server here,
# else of Debian's default server.
wanted_major() {
    if [ -n "${PG_CONFIG:-}" ]; then
        "$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'
    elif compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
        ls -v /usr/lib/postgresql/*/bin/postgres | tail -n 1 | cut -d/ -f5
    else
        apt-cache depends postgresql | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1
    fi
}

# Debian's package would create and start a cluster. Nothing here needs it, so it is not made.
install_postgres() {
    local no_cluster=/etc/postgresql-common/createcluster.d/sequin-build.conf major
    apt_install postgresql-common
    as_root mkdir -p "$(dirname $no_cluster)"
    echo 'create_main_cluster = false' | as_root tee $no_cluster >/dev/null
    # shellcheck disable=SC2064 # the path is wanted as it is now
    trap "$(declare -f as_root am_root); as_root rm -f $no_cluster" EXIT
    major=$(wanted_major)
    [ -n "$major" ] || die "found no PostgreSQL to install: set PG_CONFIG=/path/to/pg_config"
    apt_install "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major"
    as_root rm -f $no_cluster
    trap - EXIT
}

if ! am_root && ! command -v sudo >/dev/null; then
    die "installing into PostgreSQL's directories needs root: install sudo, or run make as root"
fi
command -v cc >/dev/null || apt_install build-essential
find_postgres || install_postgres
find_postgres || die "no complete PostgreSQL behind PG_CONFIG=${PG_CONFIG:-pg_config}: it needs the server, psql, headers and pg_regress"
case $PG_MAJOR in 14 | 15 | 16 | 17 | 18) ;; *) die "PostgreSQL $PG_MAJOR: sequin is for 14 to 18" ;; esac

# bindgen loads libclang.so, which needs the headers that come with the compiler.
libclang_is_there() {
    compgen -G '/usr/lib/llvm-*/lib/libclang[.-][0-9s]*' >/dev/null &&
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
}
[ -n "${LIBCLANG_PATH:-}" ] || libclang_is_there || apt_install libclang-dev
am_root && { id "$SERVER_USER" >/dev/null 2>&1 || die "no user $SERVER_USER to run PostgreSQL as: set SERVER_USER"; }
[ "${1:-}" != versions ] || command -v pip >/dev/null || apt_install python3-pip
[ "${1:-}" = test ] || exit 0

# `cargo pgrx test --runas` calls it, also as root.
command -v sudo >/dev/null || apt_install sudo

# cargo-pgrx must be of the very version that the extension depends on.
version=$(sed -nE 's/^pgrx = "=([0-9.]+)"/\1/p' Cargo.toml)
[ -n "$version" ] || die "Cargo.toml pins no version of pgrx"
if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $version" ]; then
    pkg-config --exists openssl 2>/dev/null || apt_install pkg-config libssl-dev
    note "compiling cargo-pgrx $version, which the tests need: some minutes, once"
    # What it does takes no time, so it is not optimised.
    cargo install cargo-pgrx --version "=$version" --locked --debug
fi
