#!/usr/bin/env bash
# Builds the extension and installs it: into the private copy of the server that is run and tested here, or, as
# `scripts/install.sh --system`, into the server of PG_CONFIG itself.
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
to=$PG_CONFIG as=
if [ "${1:-}" = --system ]; then to=$INSTALLED_PG_CONFIG as=as_root; fi
note "compiling sequin for PostgreSQL $PG_MAJOR: two minutes the first time"
scripts/build.sh
note "installing it ($to)"

# A server that runs has the library mapped: copying over it would crash that server. So a new file takes its place.
put() {
    $as mkdir -p "$2"
    $as install -m 644 "$1" "$2/.$(basename "$1").new"
    $as mv -f "$2/.$(basename "$1").new" "$2/$(basename "$1")"
}
package=$ROOT/target/package/$PG_FEATURE
find "$package" -type f | while read -r file; do
    case $file in
    *.so) put "$file" "$("$to" --pkglibdir)" ;;
    *) put "$file" "$("$to" --sharedir)/extension" ;;
    esac
done
