#!/usr/bin/env bash
# What users do with the packages, done in bare systems. Needs root, mmdebstrap, reprepro, buildah and umoci.
#   scripts/test_packages.sh [reproducible|install|repository|image|dockerfile...]
source "$(dirname "$0")/common.sh"
source scripts/chroot.sh

major=15 version=$(sequin_version)

package_of() { echo "target/packages/postgresql-$1-sequin_$version-1_$(dpkg --print-architecture).deb"; }

# The commands of README's section on existing clusters, as a script: of its console blocks those of root and of psql, and
# its configuration as what is added to the server's.
readme_as_script() {
    awk -v begin="runuser -u postgres -- createdb shop; runuser -u postgres -- createuser app" \
        -v psql="runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 -d shop" '
        /^## / { here = $0 == "## In an existing cluster"; next }
        !here { next }
        /^```/ { if (kind == "ini") print "END"; kind = kind ? "" : substr($0, 4); if (kind == "ini") file = ""; next }
        kind == "ini" && !file { file = substr($0, 3); print "cat >>" file " <<\"END\""; next }
        kind == "ini" { print; next }
        kind == "console" && sub(/^# /, "") { print; next }
        kind == "console" && sub(/^shop=# /, "") { print begin; begin = ":"; print psql " <<\"END\""; print; print "END" }
    ' README.md
}

# The SQL of README's tour.
tour() { awk '/^## / { here = $0 == "## Tour" } /^```/ { sql = here && /^```sql/; next } sql' README.md; }

# Without a compiler: README's own lines, and then all of its tour.
install() {
    local begun
    [ -f "$(package_of $major)" ] || scripts/packages.sh $major
    chroot_make bookworm
    cp "$(package_of $major)" "$CHROOT/root/"
    readme_as_script >"$CHROOT/root/readme.sh"
    { echo 'DROP EXTENSION sequin;'; tour; } >"$CHROOT/root/tour.sql"
    grep -q '^apt-get install ./postgresql' "$CHROOT/root/readme.sh" || die "README's lines were not found"
    grep -q 'sequin.receive' "$CHROOT/root/tour.sql" || die "README's tour was not found"
    begun=$SECONDS
    cat >"$CHROOT/root/all.sh" <<'END'
set -euo pipefail
cd /root
if command -v cc gcc clang cargo; then exit 1; fi
source ./readme.sh
runuser -u postgres -- psql -X -q -d shop -v ON_ERROR_STOP=1 <tour.sql | tail -n 3
END
    chroot_run bash /root/all.sh
    echo "README's lines, from apt-get to the end of the tour: $((SECONDS - begun)) s"
}

# Once more elsewhere, by another folder's and another user's names: the same bytes.
reproducible() {
    local clone package
    scripts/packages.sh $major
    package=$(package_of $major)
    clone=$(mktemp -d)
    git clone --quiet . "$clone/elsewhere"
    (cd "$clone/elsewhere" && git checkout --quiet --detach HEAD && umask 027 && scripts/packages.sh $major)
    cmp "$package" "$clone/elsewhere/$package" || die "two builds of the package differ"
    rm -rf "$clone"
    echo "two builds are equal: $(sha256sum "$package")"
}

# As from a web server, but for the protocol.
repository() {
    [ -f "$(package_of $major)" ] || scripts/packages.sh $major
    scripts/apt_repository.sh
    chroot_make bookworm
    mkdir -p "$CHROOT/srv"
    cp -r target/apt "$CHROOT/srv/apt"
    echo "deb [trusted=yes] file:/srv/apt bookworm main" >"$CHROOT/etc/apt/sources.list.d/sequin.list"
    chroot_run apt-get update -qq
    chroot_run apt-get install -qq --no-install-recommends postgresql-$major-sequin >/dev/null
    [ "$(chroot_run dpkg-query -W -f '${Version}' postgresql-$major-sequin)" = "$version-1" ] || die "it is not installed"
    echo "installed from the apt repository"
}

first_message() {
    cat <<END
CREATE EXTENSION sequin;
SELECT sequin.create_stream('s'), sequin.create_consumer('s', 'c');
SELECT sequin.publish('s', 'a', '"received"');
SELECT data FROM sequin.receive('c', 1, '10 s');
END
}

# CloudNativePG mounts an image's files beside the server and sets two paths.
image() {
    local image
    scripts/images.sh
    image=$ROOT/target/images/root/rootfs
    source scripts/cluster.sh
    PG_CONFIG=$(scripts/fetch_postgres.sh 18)
    find_postgres
    # What tests have installed would be found there.
    find "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)/extension" -name 'sequin*' -delete
    trap 'cluster_remove image; chroot_remove' EXIT
    cluster_start image "max_worker_processes = 32" "extension_control_path = '$image/share:\$system'" \
        "dynamic_library_path = '$image/lib:\$libdir'"
    first_message | "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d postgres | grep -x '"received"'
    cluster_remove image
    trap chroot_remove EXIT
}

# The images that the Dockerfile begins with can't be had everywhere: bare systems stand in for them, one with this machine's
# Rust. What is built of them is the Dockerfile as it is.
dockerfile() {
    local command program work=$ROOT/target/images/docker rust=${RUSTUP_HOME:-/root/.rustup} certificates=/etc/ssl/certs/ca-certificates.crt
    chroot_make bookworm ca-certificates
    rm -rf "$work"
    mkdir -p "$work/rust"
    local buildah=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs)
    local build=("${buildah[@]}" build --isolation chroot --quiet --volume "$rust:$rust:ro" --volume "$certificates:$certificates:ro")
    tar -C "$CHROOT" -cf "$work/debian.tar" .
    for program in cargo rustc rustfmt; do cp "$(command -v rustup)" "$work/rust/$program"; done
    "${build[@]}" --tag debian --file - "$work" <<<$'FROM scratch\nADD debian.tar /'
    "${build[@]}" --tag rust --file - "$work/rust" <<END
FROM localhost/debian
COPY cargo rustc rustfmt /usr/local/bin/
ENV RUSTUP_HOME=$rust PIP_CERT=$certificates
END
    "${build[@]}" --tag postgres --file - "$work" \
        <<<$'FROM localhost/debian\nRUN apt-get update -qq && apt-get install -qq --no-install-recommends postgresql-15'
    "${build[@]}" --tag sequin --build-arg PG=15 --build-arg RUST=localhost/rust --build-arg BASE=localhost/postgres \
        --file packaging/docker/Dockerfile .
    "${buildah[@]}" push --quiet sequin "oci:$work/image:15"
    umoci unpack --image "$work/image:15" "$work/root" >/dev/null
    # As the entry point of PostgreSQL's own image does it, with the image's command.
    command=$("${buildah[@]}" inspect --type image --format '{{range .OCIv1.Config.Cmd}}{{.}} {{end}}' sequin)
    # shellcheck disable=SC2086 # the command's words
    first_message | CHROOT=$work/root/rootfs chroot_run runuser -u postgres -- bash -ec '
        PATH=/usr/lib/postgresql/15/bin:$PATH
        data=$(mktemp -d)
        initdb --pgdata="$data" --auth=trust >/dev/null
        # A bare system knows no localhost.
        "$@" -D "$data" -k /tmp -h "" >"$data/log" 2>&1 </dev/null &
        until psql -h /tmp -c "" postgres 2>/dev/null; do
            kill -0 $! || { cat "$data/log" >&2; exit 1; }
        done
        psql -h /tmp -X -q -A -t -v ON_ERROR_STOP=1 postgres
    ' - $command | grep -x '"received"'
    rm -rf "$work"
}

[ $# != 0 ] || set -- reproducible install repository image dockerfile
for part in "$@"; do
    case $part in reproducible | install | repository | image | dockerfile) ;; *) die "there is no $part" ;; esac
    note "packages: $part"
    "$part"
done
