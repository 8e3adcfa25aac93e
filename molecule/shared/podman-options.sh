#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print the `podman run` options with which this machine starts a container from IMAGE, one a line.
#
#     podman-options.sh IMAGE
#
# The first set that works is taken; most machines need none. What the others are for:
# - without CAP_SYS_RESOURCE no limit may be raised, and podman's defaults are higher than the limits of such a machine;
# - crun refuses hybrid (v1 and v2) cgroups, runc takes them.
set -euo pipefail

image=$1
limits=(--ulimit nofile=16384:16384 --ulimit nproc=16384:16384)

works() {
    podman run --rm --network none --systemd always --entrypoint /bin/true "$@" "$image"
}

try() {
    works "$@" >/dev/null 2>&1 || return 1
    [ $# -eq 0 ] || printf '%s\n' "$@"
    exit 0
}

try || try "${limits[@]}" || try --runtime=runc "${limits[@]}" || true
echo "podman starts no container on this machine:" >&2
works --runtime=runc "${limits[@]}" >&2
