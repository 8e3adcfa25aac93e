#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Make the minimal system in DIRECTORY an image of the scenarios; called by mmdebstrap, see image.sh.
#
#     customize-image.sh DIRECTORY
#
# /srv/apt becomes its only source of packages: a flat repository of all that the sections router and repository of
# packages.txt need beyond the system itself. /srv/apt/bare lists what is installed of it, see prepare.yml.
set -euo pipefail

root=$1
repository=$root/srv/apt

main() {
    local minimal
    mkdir -p "$repository"
    minimal=$(installed)
    take "$PACKAGES_ROUTER,$PACKAGES_REPOSITORY" --download-only
    take "$PACKAGES_ROUTER"
    comm -13 <(echo "$minimal") <(installed) >"$repository/bare"
    make_index
    use_only_the_repository
    leave_services_to_the_scenarios
    admit_an_administrator
}

inside() {
    DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}

# What of a list the suite has: not every one has what a single scenario needs.
take() {
    local names
    mapfile -t names < <(known "$1")
    inside apt-get --quiet --yes --no-install-recommends -o Dir::Cache::Archives=/srv/apt install \
        "${@:2}" "${names[@]}" >/dev/null
}

# (${Package} is dpkg-query's.)
# shellcheck disable=SC2016
installed() {
    inside dpkg-query --show --showformat '${Package}\n' | sort
}

known() {
    local name
    for name in ${1//,/ }; do
        ! inside apt-cache show "$name" >/dev/null 2>&1 || echo "$name"
    done
}

make_index() {
    local package
    rm -rf "$repository/partial" "$repository/lock"
    for package in "$repository"/*.deb; do
        dpkg-deb --field "$package"
        echo "Filename: ./${package##*/}"
        echo "Size: $(stat --format=%s "$package")"
        echo "SHA256: $(sha256sum "$package" | cut -d' ' -f1)"
        echo
    done >"$repository/Packages"
}

use_only_the_repository() {
    rm -f "$root"/etc/apt/sources.list.d/*
    echo "deb [trusted=yes] file:/srv/apt ./" >"$root/etc/apt/sources.list"
}

leave_services_to_the_scenarios() {
    local unit
    # Nor does apt work on its own while a test installs something, nor anybody write what a test compares.
    for unit in {nginx,dnsmasq,isc-dhcp-server,isc-dhcp-server6,squid,nftables}.service \
        {apt-daily,apt-daily-upgrade,dpkg-db-backup,e2scrub_all,fstrim,logrotate}.timer; do
        inside systemctl --quiet disable "$unit" 2>/dev/null || true # where the suite has none
    done
    # Nobody logs in, and each of these takes inotify instances, of which a machine has 128 for all of root's containers.
    inside systemctl --quiet mask systemd-logind.service systemd-ask-password-{console,wall}.path
    rm -f "$root/etc/nginx/sites-enabled/default"
}

# Some scenarios come as he does, who is root by sudo only.
admit_an_administrator() {
    inside useradd --create-home admin
    echo "admin ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/admin"
}

main
