#!/usr/bin/env bash
# Feeds the pure code (crates/engine, crates/capture) with whatever bytes, texts and rows.   scripts/fuzz.sh [TARGET...]
# Without names all targets of fuzz/targets, one after the other. SECONDS_TO_RUN is for each. What is found is in
# fuzz/artifacts, and how to run it again is said.
source "$(dirname "$0")/common.sh"

SECONDS_TO_RUN=${SECONDS_TO_RUN:-20}

cargo +nightly --version >/dev/null 2>&1 || die "fuzzing needs a nightly toolchain: rustup toolchain install nightly"
command -v g++ >/dev/null || die "fuzzing needs a C++ compiler, for libFuzzer: apt-get install g++"
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --version 0.13.2

if [ $# = 0 ]; then
    for target in fuzz/targets/*.rs; do set -- "$@" "$(basename "$target" .rs)"; done
fi
options=(
    -max_total_time="$SECONDS_TO_RUN"
    -max_len=1024          # bytes: what is wrong shows in short inputs
    -timeout=10            # seconds for one input
    -rss_limit_mb=1024     # an input that has much more than its own size allocated is wrong
    -verbosity=0 -print_final_stats=1
)
# No sanitizer: there is no unsafe code in here. Overflows and debug_assert are looked for.
for target in "$@"; do
    note "fuzzing $target for $SECONDS_TO_RUN s"
    cargo +nightly fuzz run --sanitizer none "$target" -- "${options[@]}"
done
