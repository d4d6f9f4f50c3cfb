# shellcheck shell=bash
# Sourced after common.sh: bare Debian systems in folders, which root makes and enters.

# chroot_make SUITE [PACKAGE...]: a fresh system, a copy of one that is kept in target/. Sets CHROOT, which goes at the end.
chroot_make() {
    local suite=$1 kept
    shift
    kept=$ROOT/target/chroot/$suite.tar
    am_root || die "this needs root: it makes a system of its own to install in"
    command -v mmdebstrap >/dev/null || die "this needs mmdebstrap: apt-get install mmdebstrap"
    if [ ! -f "$kept" ]; then
        mkdir -p "$(dirname "$kept")"
        mmdebstrap --quiet --variant=minbase --format=tar "$suite" "$kept.new"
        mv "$kept.new" "$kept"
    fi
    chroot_remove
    CHROOT=$(mktemp -d /tmp/sequin-chroot.XXXXXX)
    trap chroot_remove EXIT
    chmod 755 "$CHROOT"
    tar -xf "$kept" -C "$CHROOT" --numeric-owner
    cp /etc/resolv.conf "$CHROOT/etc/resolv.conf"
    echo 'APT::Get::Assume-Yes "true";' >"$CHROOT/etc/apt/apt.conf.d/90yes"
    chroot_run apt-get update -qq
    [ $# = 0 ] || chroot_run apt-get install -qq --no-install-recommends "$@" >/dev/null
}

# Whatever a command starts there ends with it: it has a process namespace of its own. So do its mounts.
chroot_run() {
    unshare --mount --pid --fork --kill-child bash -ec '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/dev/shm" 2>/dev/null || true
        for folder in ${CHROOT_BINDS:-}; do
            mkdir -p "$root$folder"
            mount --bind "$folder" "$root$folder"
        done
        exec chroot "$root" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb "$@"
    ' - "$CHROOT" "$@"
}

chroot_remove() { [ -z "${CHROOT:-}" ] || rm -rf --one-file-system "$CHROOT"; }
