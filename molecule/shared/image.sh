#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print the name of the image the containers run, after making sure it is here.
#
#     image.sh SUITE
#
# MOLECULE_IMAGE names an image to take instead (pulled where it is not here yet); CONTRIBUTING.md says what it must hold.
# Without it, a minimal SUITE (bookworm, trixie, jammy, noble) is built from the distribution's packages and kept: the
# name carries a hash of all that went into it, so a changed list gives a new image, and the old one is removed.
set -euo pipefail

suite=$1
shared=$(cd "$(dirname "$0")" && pwd)

main() {
    if [ -n "${MOLECULE_IMAGE:-}" ]; then
        pulled_image
    else
        built_image
    fi
}

pulled_image() {
    podman image exists "$MOLECULE_IMAGE" || podman pull --quiet "$MOLECULE_IMAGE" >&2
    echo "$MOLECULE_IMAGE"
}

built_image() {
    local name=localhost/mwan-molecule-$suite hash
    hash=$(cat "$shared"/{packages.txt,image.sh,customize-image.sh} | sha256sum | cut -c1-12)
    # Two scenarios may start at once; one of them builds.
    exec 9<"$0"
    flock 9
    if ! podman image exists "$name:$hash"; then
        build_image "$name:$hash"
        podman images --quiet --filter "reference=$name" --filter "before=$name:$hash" |
            xargs --no-run-if-empty podman rmi >/dev/null 2>&1 || true # one that is in use stays
    fi
    echo "$name:$hash"
}

build_image() {
    echo "molecule: building $1, which takes a minute" >&2
    PACKAGES_ROUTER=$(packages router) PACKAGES_REPOSITORY=$(packages repository) \
        mmdebstrap --quiet --variant=minbase --include="$(packages image)" \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --customize-hook="$shared/customize-image.sh" \
        "$suite" - "$(mirror)" | podman import --quiet - "$1" >&2 || {
        podman rmi --ignore "$1" >/dev/null 2>&1 # half of one
        return 1
    }
}

# The packages of one section, joined by commas.
packages() {
    awk -v section="[$1]" '/^\[/ { wanted = $0 == section; next } wanted && !/^(#|$)/' "$shared/packages.txt" |
        paste --serial --delimiters=,
}

mirror() {
    case $suite in
        jammy | noble) ubuntu_sources http://archive.ubuntu.com/ubuntu ;;
        *) echo http://deb.debian.org/debian ;;
    esac
}

# Debian has the key in a package of its own.
ubuntu_sources() {
    local key=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    [ -e $key ] || {
        echo "molecule: $suite needs $key: apt-get install ubuntu-archive-keyring" >&2
        exit 1
    }
    echo "deb [signed-by=$key] $1 $suite main universe"
}

main
