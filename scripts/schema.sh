#!/usr/bin/env bash
# sql/sequin--VERSION.sql is what CREATE EXTENSION runs. It is made of the sources, and kept in the repository, so that
# nothing but the tests needs cargo-pgrx. Those of versions that are released stay as they are; what has changed since goes
# into sql/sequin--OLD--NEW.sql, which ALTER EXTENSION UPDATE runs.   scripts/schema.sh write|check
source "$(dirname "$0")/common.sh"
find_postgres || die "run: make deps"
cargo pgrx --version >/dev/null 2>&1 || die "this needs cargo-pgrx: scripts/deps.sh test"

(cd sql && sha256sum --check --quiet released.sha256) || die "a released version's schema has changed: write an upgrade script"

# What pgrx says of where each item is declared changes with every line that is added somewhere.
generate() {
    cargo pgrx schema --no-default-features --features "$PG_FEATURE" --pg-config "$PG_CONFIG" --out "$1" >&2
    sed -i -E -e '1,/end connected objects/d' -e '/^-- (src|crates)\//d' -e '/^-- sequin::/d' -e '/^-- Skipped due to/d' -e '/^-- requires:$/,/^$/d' \
        -e '/begin connected objects/d' -e 's|^/\* </end connected objects> \*/$|--|' -e 's| */\*[^*]*\*/||g' \
        -e 's/^CREATE  /CREATE /' -e 's/[[:space:]]+$//' "$1"
    sed -i '1i -- Made of the sources by scripts/schema.sh.\n\\echo Use "CREATE EXTENSION sequin" to load this file. \\quit' "$1"
    cat -s "$1" >"$1.squeezed"
    mv "$1.squeezed" "$1"
}

# The items, one on each line: pgrx tells them in no fixed order.
items() { awk 'BEGIN { RS = "\n--\n" } { gsub(/\n+/, "\001"); gsub(/^\001|\001$/, ""); print }' "$1" | sort; }

file=sql/sequin--$(sequin_version).sql
fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
generate "$fresh"
if changes=$(diff <(items "$file" 2>/dev/null) <(items "$fresh")); then
    echo "$file is what the sources say"
elif [ "${1:-}" = write ]; then
    cat "$fresh" >"$file"
    echo "$file is made anew"
else
    tr '\001' '\n' <<<"$changes" >&2
    die "$file is not what the sources say: run scripts/schema.sh write, and read \`git diff\`"
fi
