# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is never balanced: neighbours, groups, other software's traffic, the probes; though a rule asks for everything.

The rule asks for a code point, which all packets have, so for the router's own traffic it is one that marks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab import topology
from lab.balance import counted, counting, policy
from lab.console import ctl, told
from lab.engine import Engine
from lab.host import Host
from lab.own import Own
from lab.prober import Prober
from lab.topology import LAN_ROUTER, Topology
from lab.traffic import EchoServer
from lab.watched import BRISK

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
CLIENT, SECOND, BEHIND = "192.168.101.1", "192.168.102.1", "10.9.0.1"
EVERYTHING = {"name": "all", "dscp": 0, "policy": "rest"}
DECLARED: dict[str, Any] = {
    "mwan_classify": "marks",
    "mwan_policies": [policy("isp_c"), policy("isp_b", name="rest", algorithm="random", sticky=60)],
    "mwan_rules": [EVERYTHING],
}
# one datagram to each address, from a socket that may send to everybody
SAY = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for address in sys.argv[1:]:
        sock.sendto(b"hello", (address, 4000))
"""


def second_lan(net: Topology) -> Host:
    """A host on lan1, 192.168.102.1, with 10.9.0.1 behind it, to which the router has a static route."""
    second = net.lab.host("second")
    net.lab.connect(second, "eth0", net.router, "lan1")
    addresses = [f"addr add {SECOND}/24 dev eth0", "link set eth0 up", f"addr add {BEHIND}/32 dev lo"]
    net.lab.configure(second, [*addresses, "route add default via 192.168.102.254"])
    static = f"route add 10.9.0.0/16 via {SECOND}"
    net.lab.configure(net.router, ["addr add 192.168.102.254/24 dev lan1", "link set lan1 up", static])
    net.lab.settle()
    return second


@contextmanager
def router(backend: str, **variables: Any) -> Iterator[tuple[Topology, Engine]]:
    with topology.three_links() as net, Engine(net, backend) as engine, EchoServer(net.server):
        engine.settle(**{**DECLARED, **variables})
        yield net, engine
        assert net.spoofed() == 0


def taken(net: Topology) -> int:
    """New connections that the rule has taken."""
    (rule,) = told(net.router, "rules")
    return int(rule["packets"])


def test_neighbours_are_reached_as_without_us(backend: str) -> None:
    with router(backend) as made, Own(made[0].client) as client, Own(made[0].router) as own:
        net, engine = made
        second, provider = second_lan(net), net.providers["isp_a"]
        engine.settle()
        with EchoServer(second), EchoServer(net.client), EchoServer(provider), Own(second) as other:
            before = taken(net)
            for protocol in ("tcp", "udp"):
                assert client.seen(protocol=protocol, destination=SECOND) == {CLIENT: 4}, "from LAN to LAN"
                assert other.seen(protocol=protocol, destination=CLIENT) == {SECOND: 4}
                assert client.seen(protocol=protocol, destination="5.5.5.1") == {A: 4}, "to a host beside the router"
                assert own.seen(protocol=protocol, destination=SECOND) == {"192.168.102.254": 4}
                assert own.seen(protocol=protocol, destination=CLIENT) == {LAN_ROUTER: 4}
                assert own.seen(protocol=protocol, destination="5.5.5.1") == {A: 4}
            assert taken(net) == before
            # a static route is asked first, whatever mark there is
            assert client.seen(destination=BEHIND) == {CLIENT: 4}
            assert own.seen(destination=BEHIND) == {"192.168.102.254": 4}
            assert (client.seen(), own.seen()) == ({B: 4}, {B: 4}), "all else"
            assert taken(net) >= before + 8


def test_groups_and_everybody_get_no_mark(backend: str) -> None:
    with router(backend) as (net, _engine):
        groups = ["224.0.0.251", "239.1.1.1", "255.255.255.255", "192.168.101.255", "169.254.7.7"]
        to = f"ip daddr {{ {', '.join(groups)} }}"
        counting(net.router, "sent", "postrouting", to, priority=150)
        counting(net.router, "marked", "postrouting", f"{to} meta mark & 0x3f00 != 0", priority=150)
        counting(net.router, "came", "prerouting", f"ip saddr {CLIENT} {to}")
        counting(
            net.router, "came_marked", "prerouting", f"ip saddr {CLIENT} {to} meta mark & 0x3f00 != 0", priority=-10
        )
        before = taken(net)
        for host in (net.router, net.client):
            host.run(["python3", "-c", SAY, *groups])
        time.sleep(0.1)
        assert (counted(net.router, "sent") >= 5, counted(net.router, "came")) == (True, 5)
        assert (counted(net.router, "marked"), counted(net.router, "came_marked"), taken(net)) == (0, 0, before)


def test_probes_are_no_new_connections_to_be_led(backend: str) -> None:
    with router(backend, mwan_probe={**BRISK, "profile": "fast"}) as (net, engine):
        before = taken(net)
        with Prober(net.router) as prober:
            for link in net.uplinks:
                prober.wait_for(link, "up")
            prober.wait_settled()
            assert prober.status()
        assert taken(net) == before
        with Own(net.router) as own:
            for link, resolved in engine.apply().links.items():
                ctl(net.router, "use", link, "--", "ping", "-c1", "-W2", "7.7.7.7")
                assert own.seen(mark=int(resolved["mark"], 16)) == {net.sources[link]: 4}
        assert taken(net) == before


# as tailscale, wg-quick and an administrator have them: each leads to another link than ours would
FOREIGN = """
ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup 200
ip rule add pref 5270 lookup 52
ip rule add pref 32763 lookup main suppress_prefixlength 0
ip rule add pref 32764 not fwmark 0x1a0000/0xff0000 lookup 51820
ip route add default via 5.5.5.1 dev wan1 table 200
ip route add 7.7.7.64/28 via 6.6.6.1 dev wan2 table 52
ip route add default via 6.6.6.1 dev wan2 table 51820
"""
LEFT = [
    {"name": "tailscale", "mark": "0x80000/0xff0000", "target": "main"},
    {"name": "tailnet", "destination": "7.7.7.64/28", "target": "main"},
    {"name": "everybody", "protocol": "tcp", "destination_port": 8081, "target": "main"},
    {"name": "by_mark", "dscp": "cs3", "target": "main"},
    {"name": "refused", "protocol": "tcp", "destination_port": 8082, "target": "unreachable"},
]


def test_what_is_left_to_others_goes_by_their_rules(backend: str) -> None:
    with router(backend, mwan_rules=LEFT) as made, EchoServer(made[0].server, 8081):
        net, engine = made
        net.router.run("set -e\n" + FOREIGN)
        net.router.nft(
            """table inet tenant {
              chain early { type filter hook prerouting priority -170; ip dscp cs5 meta mark set 0x00080001; }
            }"""
        )
        assert engine.apply().actions == []
        with Own(net.router) as own, Own(net.client) as client:
            for who in (own, client):
                assert who.seen() == {C: 4}
                assert who.seen(destination="7.7.7.65") == {B: 4}
                assert who.seen(port=8081) == {B: 4}
                assert who.seen(tos=24 << 2) == {B: 4}
                assert who.seen(1, port=8082) == {"EHOSTUNREACH": 1}
            assert own.seen(mark=0x80001) == {A: 4}
            assert client.seen(tos=40 << 2) == {A: 4}
            # without rules of ours for them, the default policy comes before later rules of others
            engine.settle(mwan_rules=[])
            assert (own.seen(mark=0x80001), client.seen(destination="7.7.7.65")) == ({C: 4}, {C: 4})
        assert engine.remove_all().changed
        assert engine.remove_all().actions == []
