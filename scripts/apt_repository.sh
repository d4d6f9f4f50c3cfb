#!/usr/bin/env bash
# An apt repository of the packages in target/packages, in target/apt: what a web server has to serve, but for conf and db.
# SIGN_WITH names a GPG key of yours to sign it with.   scripts/apt_repository.sh
source "$(dirname "$0")/common.sh"
command -v reprepro >/dev/null || die "this needs reprepro: apt-get install reprepro"

repository=$ROOT/target/apt
packages=("$ROOT"/target/packages/*.deb)
[ -f "${packages[0]}" ] || die "there are no packages: make packages"
rm -rf "$repository"
mkdir -p "$repository/conf"
sign=${SIGN_WITH:+SignWith: $SIGN_WITH}
# An empty line ends a distribution's paragraph.
awk -v sign="$sign" '/^$/ && sign { print sign } { print } END { if (sign) print sign }' packaging/apt/distributions \
    >"$repository/conf/distributions"
sed -n 's/^Codename: //p' packaging/apt/distributions | while read -r codename; do
    reprepro --silent --basedir "$repository" includedeb "$codename" "${packages[@]}"
    reprepro --basedir "$repository" list "$codename"
done
