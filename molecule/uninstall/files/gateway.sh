#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# What an administrator has made of the host before: forwarding, strict filtering, masquerading, and rules and routes of
# other kinds.
set -eu

cat > /etc/sysctl.d/50-gateway.conf <<'SETTINGS'
net.ipv4.ip_forward = 1
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.default.rp_filter = 1
SETTINGS
sysctl --quiet --load /etc/sysctl.d/50-gateway.conf

cat > /etc/nftables.conf <<'RULES'
#!/usr/sbin/nft -f
flush ruleset
table inet gateway {
  chain leaving { type nat hook postrouting priority srcnat; oifname "wan1" masquerade; }
  chain arriving { type filter hook input priority filter; ip saddr 203.0.113.9 drop; }
}
RULES
systemctl enable --now nftables.service
iptables -A FORWARD -d 203.0.113.9 -j DROP

ip rule add from 10.20.0.0/16 lookup 200
ip route add default via 192.168.101.1 dev lan0 table 200
ip route add 10.1.0.0/16 via 192.168.101.1 dev lan0

# shared by many packages: they stay, even empty
mkdir -p /usr/local/share/man/man8 /usr/local/share/bash-completion/completions \
    /etc/iproute2/rt_tables.d /etc/iproute2/rt_protos.d
