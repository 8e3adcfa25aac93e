#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# What others put on a router, as they write it: firewalld, Docker, wg-quick, tailscale, routing daemons and people.
set -eu

# The firewall of the host: zone external has masquerading by default, and what goes there from the LAN takes a policy.
mkdir -p /etc/firewalld/zones /etc/firewalld/policies
zone() {
    cat > "/etc/firewalld/zones/$1.xml"
}
zone external <<'ZONE'
<zone><interface name="wan1"/><interface name="wan2"/><service name="http"/><masquerade/></zone>
ZONE
zone internal <<'ZONE'
<zone><interface name="lan0"/></zone>
ZONE
zone trusted <<'ZONE'
<zone target="ACCEPT"><interface name="docker0"/><interface name="wg0"/></zone>
ZONE
cat > /etc/firewalld/policies/out.xml <<'POLICY'
<policy target="ACCEPT">
  <ingress-zone name="internal"/><egress-zone name="external"/><egress-zone name="trusted"/>
</policy>
POLICY
# from the repository that the image brings along; the package starts the service
apt-get --quiet update
DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends install firewalld
until firewall-cmd --quiet --state; do sleep 0.1; done

# wg-quick up wg0, with FwMark = 0x10000 and AllowedIPs = 0.0.0.0/0
ip route add default dev wg0 table 65536
ip rule add not fwmark 0x10000 table 65536
ip rule add table main suppress_prefixlength 0
nft -f - <<'RULES'
table ip wg-quick-wg0 {
  chain preraw { type filter hook prerouting priority -300; iifname != "wg0" ip daddr 10.8.0.1 fib saddr type != local drop; }
  chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }
  chain postmangle { type filter hook postrouting priority -150; meta l4proto udp mark 0x10000 ct mark set mark; }
}
RULES

# tailscale, systemd-networkd, BIRD and an administrator; also in tables and at priorities that will be ours
ip -batch - <<'COMMANDS'
rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
rule add pref 5270 lookup 52
rule add from 10.20.0.0/16 lookup 200 pref 32000 proto static
rule add from 10.30.0.0/16 lookup 1001 pref 1001 proto bird
rule add from 10.31.0.0/16 fwmark 0x100/0x3f00 lookup 1001 pref 1999
route add 100.64.9.0/24 dev wg0 table 52
route add default via 192.168.101.1 dev lan0 table 200
route add 10.1.0.0/16 via 192.168.101.1 dev lan0 proto static
route add 10.2.0.0/16 via 192.168.101.1 dev lan0 table 1001 proto bird
route add default via 192.168.101.1 dev lan0 table 1002 metric 77 proto bird
route add unreachable 10.4.0.0/16 table 1003
route add blackhole 10.99.0.0/17
COMMANDS
nft -f - <<'RULES'
table inet administrator {
  set blocked { type ipv4_addr; elements = { 203.0.113.9 } }
  chain early { type filter hook prerouting priority -170; ip saddr @blocked counter drop; meta mark set meta mark or 0x400000; }
  chain late { type filter hook postrouting priority 200; iifname "lan0" meta l4proto tcp meta mark and 0x400000 == 0 counter; }
}
table ip mwan { chain not_ours { }; }
RULES
