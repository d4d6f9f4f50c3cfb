#!/usr/bin/env bash
# The README's commands in a bare Debian that has nothing but Rust and make, with how long they take. What `make run` leaves
# up has to be there after `make test`, and nothing of sequin outside of the checkout.
# Needs root and mmdebstrap.   scripts/test_bare.sh bookworm|trixie [run|test...]
source "$(dirname "$0")/common.sh"
source scripts/chroot.sh
suite=${1:-bookworm}
shift || true
[ $# != 0 ] || set -- run test run

chroot_make "$suite" make git ca-certificates
# A registry with certificates of its own is this machine's affair.
cp /etc/ssl/certs/ca-certificates.crt "$CHROOT/etc/ssl/certs/ca-certificates.crt"
git clone --quiet . "$CHROOT/checkout"
# Rust as rustup installs it: its programs, and what they lead to. Other programs that cargo has installed stay out.
mkdir -p "$CHROOT/usr/local/bin"
for program in cargo cargo-clippy cargo-fmt clippy-driver rustc rustdoc rustfmt rustup; do
    cp "$(command -v rustup)" "$CHROOT/usr/local/bin/$program"
done
export CHROOT_BINDS=${RUSTUP_HOME:-/root/.rustup}
[ ! -f "${CARGO_HOME:-/root/.cargo}/config.toml" ] ||
    install -D "${CARGO_HOME:-/root/.cargo}/config.toml" "$CHROOT/root/.cargo/config.toml"
cat >"$CHROOT/all.sh" <<'END'
cd /checkout
touch /begun
for what in "$@"; do
    if [ -e target/run ]; then echo 'SELECT process, state FROM sequin.workers' | scripts/psql.sh || exit; fi
    begun=$SECONDS
    make "$what" || exit
    echo "== make $what: $((SECONDS - begun)) s"
done
# cargo's registry has its sources in files of other names.
find / -xdev -newer /begun -iname '*sequin*' -not -path '/checkout/*' -not -path '/proc/*' -not -path '/root/.cargo/*' |
    grep . && { echo 'error: these were written outside the checkout'; exit 1; }
make stop
END
chroot_run bash /all.sh "$@"
