#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# Print everything in the kernel and in the firewall's files that is not ours, which we know by our protocol number and
# our nftables table.
set -eu

echo "# rules"
ip -N -oneline -details rule show | grep -v ' proto 77'
echo "# routes"
ip -N -oneline -details route show table all | grep -v ' proto 77' | sort
# By the order in which they were made, which a firewall changes that loads its rules anew, they are not compared.
nft list tables | sort | while read -r _table family name; do
    case "$family $name" in
        "inet mwan" | "ip filter" | "ip nat" | "ip mangle" | "ip raw") ;;
        *) nft --stateless list table "$family" "$name" ;;
    esac
done
# without times and counters
iptables-save | grep -v '^#' | sed 's/ \[[0-9]*:[0-9]*\]$//'
iptables-legacy-save | grep -v '^#' | sed 's/ \[[0-9]*:[0-9]*\]$//'
echo "# files"
find /etc/firewalld /etc/nftables.conf /etc/iproute2/rt_tables -type f -exec sha256sum {} + | sort
