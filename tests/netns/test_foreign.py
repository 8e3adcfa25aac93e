# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What other programs put on the same router outlives every change of ours, and our removal, unchanged."""

from __future__ import annotations

import re

import pytest
from lab.balance import counted, counting, policy
from lab.engine import Engine, RefusedError
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

# as wg-quick, tailscale, systemd-networkd and an administrator add them
RULES = """
ip rule add not fwmark 0xca6c lookup 51820 pref 32764 proto static
ip rule add lookup main suppress_prefixlength 0 pref 32763
ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
ip rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
ip rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
ip rule add pref 5270 lookup 52
ip rule add from 10.20.0.0/16 lookup 200 pref 32000 proto 10
ip rule add from 10.30.0.0/16 lookup 1001 pref 1001 proto static
ip rule add from 10.31.0.0/16 lookup 1001 pref 1100
ip rule add from 10.32.0.0/16 fwmark 0x100/0x3f00 lookup 1001 pref 1999
"""
ROUTES = """
ip route add default dev lan0 table 51820
ip route add 100.64.9.0/24 dev lan0 table 52
ip route add 10.1.0.0/16 via 192.168.101.1 dev lan0 proto static
ip route add 10.2.0.0/16 via 192.168.101.1 dev lan0 table 1001 proto static
ip route add default via 192.168.101.1 dev lan0 table 1002 metric 77 proto 10
ip route add unreachable 10.4.0.0/16 table 1003
ip route add blackhole 10.99.0.0/17
"""
NFTABLES = """
table ip nat {
  chain DOCKER { iifname "docker0" return; }
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local counter jump DOCKER; }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; oifname != "docker0" ip saddr 172.17.0.0/16 masquerade;
  }
}
table inet firewalld {
  set blocked { type ipv4_addr; elements = { 203.0.113.9 } }
  chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; ip saddr @blocked drop; }
}
table ip mwan { chain not_ours { }; }
"""
IPTABLES = """
iptables-legacy -t nat -N DOCKER
iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-legacy -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables-legacy -t mangle -N ts-mangle
iptables-legacy -t mangle -A POSTROUTING -j ts-mangle
iptables-legacy -t mangle -A PREROUTING -s 203.0.113.9 -j DROP
iptables-legacy -t filter -N DOCKER-USER
iptables-legacy -t filter -A FORWARD -j DOCKER-USER
iptables-legacy -t filter -P FORWARD ACCEPT
iptables-legacy -t raw -A PREROUTING -s 203.0.113.9 -j DROP
"""


def foreign_parts(state: dict[str, str]) -> dict[str, list[str]]:
    """Everything but ours: by protocol, table name and chain name."""
    nft = state["nftables"].split("table inet mwan {")
    ours_end = nft[1].split("\n}\n", 1)[1] if len(nft) > 1 else ""
    chains = [line for line in state["iptables"].splitlines() if "MWAN_" not in line and line]
    return {
        "rules": [line for line in state["rules"].splitlines() if "proto mwan" not in line and "proto 77" not in line],
        "routes": [
            line for line in state["routes"].splitlines() if "proto mwan" not in line and "proto 77" not in line
        ],
        "nftables": sorted((nft[0] + ours_end).splitlines()),
        "iptables": chains,
    }


def by_number(state: dict[str, str]) -> dict[str, str]:
    """Table names come and go with rt_tables.d; numbers stay."""
    for name, number in {"mwan_isp_a": "1001", "mwan_isp_b": "1002", "mwan_balanced": "1003"}.items():
        state = {kind: re.sub(rf"\b{name}\b", number, text) for kind, text in state.items()}
    return state


def test_objects_of_others_survive(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.run("set -e\n" + RULES + ROUTES)
    net.router.nft(NFTABLES)
    net.router.run("set -e\n" + IPTABLES)
    net.router.run("iptables-legacy -t mangle -L -n")
    before = foreign_parts(snapshot(net.router))
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        assert foreign_parts(by_number(snapshot(net.router))) == before
        assert fetch_many(net.client, 40).failures == []
        engine.settle(mwan_policies=[policy("isp_b", last_resort="blackhole")], mwan_blackhole=["10.77.0.0/16"])
        engine.settle(mwan_rules=[{"name": "one", "destination": "7.7.7.9", "link": "isp_a"}])
        assert foreign_parts(by_number(snapshot(net.router))) == before
        engine.settle(mwan_firewall_backend="iptables" if backend == "nftables" else "nftables")
        assert foreign_parts(by_number(snapshot(net.router))) == before
        engine.remove_all()
        assert foreign_parts(by_number(snapshot(net.router))) == before


def test_route_of_another_in_our_place_is_not_replaced(two_links: Topology, backend: str) -> None:
    """An add in the place of a foreign route fails, names it, and undoes what came before."""
    two_links.router.ip("route add default via 6.6.6.1 dev wan2 table 1001 proto static")
    with Engine(two_links, backend) as engine:
        before = snapshot(two_links.router)
        with pytest.raises(RefusedError, match=r"default via 5\.5\.5\.1 dev wan1.*EEXIST"):
            engine.apply()
        assert snapshot(two_links.router) == before
        two_links.router.ip("route del default table 1001")
        engine.settle()


def test_foreign_bits_of_both_marks_survive(two_links: Topology, backend: str) -> None:
    """Others mark packets and connections outside our mask; restore, pin and route leave their bits alone."""
    net = two_links
    net.router.nft(
        """table inet tenant {
          chain early { type filter hook prerouting priority -170; meta mark set meta mark | 0x00a40000; }
          chain own { type filter hook output priority -170; meta mark set meta mark | 0x00a40000; }
          chain connections {
            type filter hook prerouting priority -169;
            ct state new ct mark set ct mark | 0x5a00000c;
          }
          chain own_connections {
            type filter hook output priority -169;
            ct state new ct mark set ct mark | 0x5a00000c;
          }
        }"""
    )
    forwarded = 'ip daddr 7.7.7.0/24 oifname { "wan1", "wan2" }'
    for name, match in {
        "all_packets": forwarded,
        "connection_bits": f"{forwarded} ct mark & 0xffffc0ff == 0x5a00000c",
        "packet_bits": f"{forwarded} meta mark & 0xffffc0ff == 0x00a40000",
        "pinned": f"{forwarded} ct mark & 0x3f00 != 0",
    }.items():
        counting(net.router, name, "postrouting", match, priority=150)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        assert fetch_many(net.client, 60).failures == []
        assert fetch_many(net.router, 60).failures == []
    packets = counted(net.router, "all_packets")
    assert packets > 500
    assert counted(net.router, "connection_bits") == packets
    assert counted(net.router, "packet_bits") == packets
    assert counted(net.router, "pinned") == packets


WG_QUICK = """table ip wg-quick-wg0 {
  chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }
  chain postmangle {
    type filter hook postrouting priority -150; meta l4proto udp mark 0x10000 ct mark set meta mark;
  }
}"""


def test_rules_hold_where_wg_quick_sets_the_mark_of_all_udp(two_links: Topology) -> None:
    """As it does for a tunnel that takes everything; it was there before us."""
    net = two_links
    net.router.nft(WG_QUICK)
    for device in ("wan1", "wan2"):
        counting(net.router, device, "postrouting", f"oifname {device} udp dport 5060", priority=150)
    with Engine(net, "nftables") as engine:
        engine.settle(mwan_rules=[{"name": "voice", "protocol": "udp", "destination_port": 5060, "link": "isp_b"}])
        net.client.run(["bash", "-c", "for n in {1..20}; do echo hello > /dev/udp/7.7.7.7/5060; done"])
        assert (counted(net.router, "wan1"), counted(net.router, "wan2")) == (0, 20)
