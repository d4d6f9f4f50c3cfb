#!/usr/bin/env bash
# The tests of the pure code (crates/engine, crates/capture) under Miri; with `asan`, under AddressSanitizer, which needs no
# component that a toolchain may lack, and sees less.   scripts/miri.sh [asan] [FILTER]
source "$(dirname "$0")/common.sh"

tests=(test -p sequin-engine -p sequin-capture --lib)
cargo +nightly --version >/dev/null 2>&1 || die "this needs a nightly toolchain: rustup toolchain install nightly"
if [ "${1:-}" = asan ]; then
    shift
    # With a target given, build scripts and macros are built without the sanitizer.
    host=$(rustc +nightly -vV | sed -n 's/^host: //p')
    # Some tests leak on purpose, for a longer lifetime.
    ASAN_OPTIONS=detect_leaks=0 RUSTFLAGS=-Zsanitizer=address exec cargo +nightly "${tests[@]}" --target "$host" -- "$@"
fi
cargo +nightly miri --version >/dev/null 2>&1 ||
    die "the nightly toolchain has no Miri, nothing was tested: rustup component add miri --toolchain nightly (or: make asan)"
# Miri is some hundred times slower: a few cases of each property, and none of the long simulations.
export PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation
exec cargo +nightly miri "${tests[@]}" -- --skip model --skip simulation --skip each_day "$@"
