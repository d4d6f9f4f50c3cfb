#!/usr/bin/env bash
# What users do with the packages, done in bare systems. Needs root, mmdebstrap and reprepro; 5 minutes.
#   scripts/test_packages.sh [reproducible|install|repository|image...]
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
    chroot_run apt-get update -qq
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
    trap 'cluster_remove image' EXIT
    cluster_start image "max_worker_processes = 32" "extension_control_path = '$image/share:\$system'" \
        "dynamic_library_path = '$image/lib:\$libdir'"
    "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -d postgres -c 'CREATE EXTENSION sequin' \
        -c "SELECT sequin.create_stream('s')" -c "SELECT sequin.create_consumer('s', 'c')" \
        -c "SELECT sequin.publish('s', 'a', '1')" -c "SELECT data FROM sequin.receive('c', 1, '10 s')"
    cluster_remove image
    trap - EXIT
}

[ $# != 0 ] || set -- reproducible install repository image
for part in "$@"; do
    case $part in reproducible | install | repository | image) ;; *) die "there is no $part" ;; esac
    note "packages: $part"
    "$part"
done
