#!/usr/bin/env bash
# Debian packages postgresql-NN-sequin, laid out as PGDG's, in target/packages. Equal byte for byte however often and
# wherever they are made of a commit with the same compiler.   scripts/packages.sh [14|15|16|17|18...]
source "$(dirname "$0")/common.sh"
command -v dpkg-deb >/dev/null || die "this needs dpkg-deb, as Debian and Ubuntu have it"
[ $# != 0 ] || set -- 14 15 16 17 18

out=$ROOT/target/packages
version=$(sed -nE '1s/.*\((.*)\).*/\1/p' packaging/debian/changelog)
[[ $version == "$(sequin_version)"-* ]] || die "packaging/debian/changelog is about another version than $(sequin_version)"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
# Paths of this machine are in panic messages otherwise.
export CARGO_TARGET_DIR=$out/build
export RUSTFLAGS="--remap-path-prefix=$ROOT=sequin --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo -C strip=symbols"
mkdir -p "$out"

# The packages with the libraries that a file is linked to.
libraries() {
    local work=$1 file=$2
    mkdir -p "$work/debian"
    printf 'Source: sequin\n\nPackage: sequin\nArchitecture: any\n' >"$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O "$file" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

for major in "$@"; do
    PG_CONFIG=$(scripts/fetch_postgres.sh "$major") scripts/build.sh
    work=$out/work/$major
    root=$work/root
    doc=$root/usr/share/doc/postgresql-$major-sequin
    rm -rf "$work"
    install -D -m 644 "target/package/pg$major/sequin.so" "$root/usr/lib/postgresql/$major/lib/sequin.so"
    install -D -m 644 -t "$root/usr/share/postgresql/$major/extension" "target/package/pg$major"/sequin{.control,--*.sql}
    mkdir -p "$doc" "$root/DEBIAN"
    license=$(tail -n +5 LICENSE | sed 's/^$/./; s/^/ /')
    awk -v license="$license" '$0 == "@LICENSE@" { print license; next } { print }' packaging/debian/copyright >"$doc/copyright"
    gzip -9n <packaging/debian/changelog >"$doc/changelog.Debian.gz"
    gzip -9n <packaging/debian/NEWS >"$doc/NEWS.Debian.gz"
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    # It is no upload to Debian, which would close the bug that asks for it.
    mkdir -p "$root/usr/share/lintian/overrides"
    echo "postgresql-$major-sequin: initial-upload-closes-no-bugs *" \
        >"$root/usr/share/lintian/overrides/postgresql-$major-sequin"
    needed=$(libraries "$work" "$root/usr/lib/postgresql/$major/lib/sequin.so")
    architecture=$(dpkg --print-architecture)
    sed -e "s/@MAJOR@/$major/; s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@LIBRARIES@/$needed/" \
        -e "s/@SIZE@/$(du -sk --apparent-size "$root" | cut -f1)/" packaging/debian/control.in >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    find "$root" -type d -exec chmod 755 {} +
    find "$root" -type f -exec chmod 644 {} +
    package=$out/postgresql-$major-sequin_${version}_$architecture.deb
    dpkg-deb --root-owner-group -Zxz --build "$root" "$package"
    if command -v lintian >/dev/null; then lintian --allow-root --fail-on error,warning "$package"; fi
done
