#!/usr/bin/env bash
# Builds a PostgreSQL 18 that checks its own assertions and wipes freed memory, of Debian's source package, to test with.
# Three minutes on two cores. Prints the path of its pg_config.
source "$(dirname "$0")/common.sh"

version=18.6 sha256=555610c24d53e4316da5b7d3fc25c279d96856d5e0e23ee308c328c5fa881d9f
folder=$ROOT/target/postgres/18-assert
if [ "$(cat "$folder/version" 2>/dev/null)" != "$version" ]; then
    for needed in bison flex perl make cc; do
        command -v "$needed" >/dev/null || die "this needs $needed: apt-get install build-essential bison flex"
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # A list of sources of its own: the machine's may name another suite, or no sources. The hash says what it has to be.
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb-src [trusted=yes] http://deb.debian.org/debian sid main" >"$work/sources.list"
    apt=(apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    "${apt[@]}" update >&2
    (cd "$work" && "${apt[@]}" source --download-only --only-source postgresql-18 >&2)
    archive=$work/postgresql-18_$version.orig.tar.bz2
    sha256sum --check --quiet <<<"$sha256  $archive" >&2 || die "Debian's source package is another one now"
    tar -xjf "$archive" -C "$work"
    rm -rf "$folder"
    (
        cd "$work"/postgresql-18*/
        ./configure --prefix="$folder" --enable-cassert --enable-debug --without-icu --without-readline --without-zlib --quiet
        make -s -j "$(nproc)"
        make -s install
        make -s -C src/test/isolation install
    ) >&2
    echo "$version" >"$folder/version"
fi
echo "$folder/bin/pg_config"
