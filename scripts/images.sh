#!/usr/bin/env bash
# The image for CloudNativePG, as an OCI folder in target/images/cnpg, and unpacked in target/images/root. Nothing is pulled,
# and no engine has to run.   scripts/images.sh
source "$(dirname "$0")/common.sh"
for needed in buildah umoci; do command -v $needed >/dev/null || die "this needs $needed: apt-get install $needed"; done

package=$ROOT/target/packages/postgresql-18-sequin_$(sequin_version)-1_$(dpkg --print-architecture).deb
[ -f "$package" ] || scripts/packages.sh 18
images=$ROOT/target/images
rm -rf "$images"
mkdir -p "$images/package"
dpkg-deb -x "$package" "$images/package"
storage=(--root "$images/storage" --runroot "$images/run" --storage-driver vfs)
buildah "${storage[@]}" build --isolation chroot --quiet --timestamp "$(git log -1 --format=%ct)" --tag sequin-cnpg \
    --file packaging/docker/Dockerfile.cnpg "$images/package"
buildah "${storage[@]}" push --quiet sequin-cnpg "oci:$images/cnpg:18"
umoci unpack --image "$images/cnpg:18" "$images/root" >/dev/null
chmod 755 "$images/root"
rm -rf "$images/storage" "$images/run"
echo "$images/cnpg"
