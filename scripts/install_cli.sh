#!/usr/bin/env bash
# Installs the command sequin, as `make cli` has built it, with its manual pages and completions, below PREFIX.
source "$(dirname "$0")/common.sh"
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
binary=${CARGO_TARGET_DIR:-target}/cli/sequin
[ -x "$binary" ] || die "run: make cli"
as=as_root
mkdir -p "$prefix" 2>/dev/null && [ -w "$prefix" ] && as=
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$binary" man --dir "$pages"
for shell in bash zsh fish; do "$binary" completions $shell >"$pages/$shell"; done
$as install -D -m 755 "$binary" "$prefix/bin/sequin"
$as install -D -m 644 -t "$prefix/share/man/man1" "$pages"/*.1
$as install -D -m 644 "$pages/bash" "$prefix/share/bash-completion/completions/sequin"
$as install -D -m 644 "$pages/zsh" "$prefix/share/zsh/site-functions/_sequin"
$as install -D -m 644 "$pages/fish" "$prefix/share/fish/vendor_completions.d/sequin.fish"
note "sequin is in $prefix/bin"
