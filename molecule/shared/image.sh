#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print the name of the image the containers run, after making sure it is here.
#
# MOLECULE_IMAGE names an image to take instead (pulled where it is not here yet). It must hold systemd and what
# packages.txt lists. Without it a minimal Debian is built from the distribution's packages and kept: the name carries a
# hash of all that went into it, so a changed list gives a new image.
set -euo pipefail

shared=$(cd "$(dirname "$0")" && pwd)
suite=bookworm

pulled_image() {
    podman image exists "$MOLECULE_IMAGE" || podman pull --quiet "$MOLECULE_IMAGE" >&2
    echo "$MOLECULE_IMAGE"
}

build_image() {
    local image=$1 packages
    packages=$(sed '/^#/d' "$shared/packages.txt" | paste --serial --delimiters=,)
    # The services of the tests start where a scenario says so, not everywhere. ($1 in the hooks is mmdebstrap's.)
    # shellcheck disable=SC2016
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --customize-hook='chroot "$1" systemctl disable nginx.service' \
        --customize-hook='rm -f "$1/etc/nginx/sites-enabled/default"' \
        "$suite" - | podman import --quiet - "$image" >&2
}

built_image() {
    local image hash
    hash=$(cat "$shared/packages.txt" "$shared/image.sh" | sha256sum | cut -c1-12)
    image=localhost/mwan-molecule-$suite:$hash
    # Two scenarios may start at once; one of them builds.
    exec 9<"$0"
    flock 9
    podman image exists "$image" || build_image "$image"
    echo "$image"
}

if [ -n "${MOLECULE_IMAGE:-}" ]; then
    pulled_image
else
    built_image
fi
