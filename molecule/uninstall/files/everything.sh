#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print all of the host that a router is made of, a line for each thing, so that two lists can be compared.
set -eu
export LC_ALL=C

told() {
    sed "s|^|$1: |"
}

for family in -4 -6; do
    ip "$family" -N -oneline -details rule show | told rule
    ip "$family" -N -oneline -details route show table all | sed 's/ expires [0-9a-z]*//' | sort | told route
done
nft --stateless list ruleset | told nftables
for program in iptables iptables-legacy ip6tables ip6tables-legacy; do
    "$program-save" | grep -v '^#' | sed 's/ \[[0-9]*:[0-9]*\]$//' | told "$program" || true
done
conntrack -L 2>/dev/null | grep -o 'mark=[1-9][0-9]*' | told connection || true
# what counts is left out
sysctl --all --pattern '^net\.' 2>/dev/null | grep -v -e 'nf_conntrack_count =' -e '\.nf_conntrack_generic_' | told sysctl

# Content of files, and of directories and links what tells them. Left out: what logs and counts, what the programs for
# users and iptables lock and back up, and the state of systemd, of which units are asked for below.
find /etc /usr/local /var/lib /run \
    \( -path /run/systemd -o -path /run/log -o -path /var/lib/systemd -o -name .pwd.lock -o -name xtables.lock \) -prune \
    -o -path '/etc/*-' -o -printf '%y %m %u %g %p %l\n' | sort -k 5 | told file
find /etc /usr/local /var/lib -path /var/lib/systemd -prune -o -type f ! -path '/etc/*-' -exec sha256sum {} + |
    sort -k 2 | told content
getent passwd | told user
getent group | told group
systemctl list-unit-files --no-legend --no-pager | awk '{ print $1, $2 }' | sort | told unit
systemctl list-units --type=service --state=active,failed --plain --no-legend --no-pager |
    awk '{ print $1, $3 }' | sort | told runs
