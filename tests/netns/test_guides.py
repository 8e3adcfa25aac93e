# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The guides as they are written: what they declare is taken out of them, and does what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _mwan.firewall.iptables import Iptables
from lab import guides, impair, topology
from lab.balance import about, counted, counting, policy
from lab.console import command, ctl
from lab.doors import Doors, knock, neighbour, tcp, udp
from lab.engine import Engine
from lab.prober import Prober
from lab.state import snapshot
from lab.topology import LAN_ROUTER, SERVER, Topology
from lab.traffic import AccessLogServer, EchoServer, LongLivedTcp, LongLivedUdp, fetch_many
from lab.watched import BRISK, watched

A, B = "5.5.5.5", "6.6.6.6"
CLIENT, WEB, MAIL = "192.168.101.1", "192.168.101.10", "192.168.101.11"
FRIEND = "7.7.7.70"
SOON = 5.0


def typed(page: str, word: str) -> str:
    """The one line of a page to type that has this word."""
    lines = [line for block in guides.command_blocks(guides.CHECKOUT / "docs" / page) for line in block if word in line]
    assert len(lines) == 1, lines
    return lines[0]


def indented(page: str, first: str) -> str:
    """The block of a page that begins with this line."""
    blocks = guides.command_blocks(guides.CHECKOUT / "docs" / page)
    return next("\n".join(lines) for lines in blocks if lines[0].startswith(first))


def test_quick_start(two_links: Topology) -> None:
    """The plan first; then both links by weight; a drained link, a pulled cable; and the way back of step 4."""
    net = two_links
    net.variables = guides.declared("quickstart.md", "2. Write it down")
    before = snapshot(net.router)
    with Engine(net) as engine:
        planned = engine.apply(check=True)
        assert planned.has("mwan_balanced", "nexthop via 5.5.5.1 dev wan1 weight 3")
        assert snapshot(net.router) == before
    with watched(net) as prober:
        fetched = fetch_many(net.client, 200)
        assert (about(fetched.sources, {A: 3, B: 1}), fetched.failures) == (True, [])
        for command in ("mwanctl status", "mwanctl diff", "mwanctl explain"):
            ctl(net.router, *typed("quickstart.md", command).split()[1:])
        ctl(net.router, "drain", "isp_b")
        assert set(fetch_many(net.client, 30).sources) == {A}
        ctl(net.router, "undrain", "isp_b")
        prober.wait_settled()
        with impair.cable_pulled(net, "isp_b"):
            fetched = fetch_many(net.client, 30)
            assert (set(fetched.sources), fetched.failures) == ({A}, [])
        prober.stop()
        net.router.run(undoing())
    after = snapshot(net.router)
    assert [after[kind] for kind in ("rules", "nftables")] == [before[kind] for kind in ("rules", "nftables")]
    assert " proto mwan" not in after["routes"] + after["rules"]


def undoing() -> str:
    """What the router does when nobody calls it off; the service is the prober's, which the test has ended."""
    script = re.fullmatch(r"systemd-run .* /bin/sh -c '(.*)'", typed("quickstart.md", "--on-active"))
    assert script
    service, *rest = script[1].split("; ")
    assert service == "systemctl disable --now mwan"
    return "; ".join(rest)


@pytest.fixture
def dsl_and_cable() -> Iterator[Topology]:
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")
    with topology.dsl_and_cable() as built:
        yield built


def test_pppoe_and_dhcp(dsl_and_cable: Topology) -> None:
    """Both are used; segments fit the line; hung up and dialled with another address; a lease with another gateway."""
    net, sources = dsl_and_cable, {"11.1.1.1": 2, B: 5}
    net.variables = guides.declared("dynamic-links.md", "A PPPoE line and a cable modem")
    net.router.nft(indented("dynamic-links.md", "table inet mss"))
    fitting = "tcp flags syn tcp option maxseg size 1452"
    counting(net.uplinks["dsl"].provider, "fitting", "prerouting", f"iifname cust {fitting}")
    with watched(net) as prober:
        fetched = fetch_many(net.client, 150)
        assert (about(fetched.sources, sources), fetched.failures) == (True, [])
        assert counted(net.uplinks["dsl"].provider, "fitting") == fetched.sources["11.1.1.1"]
        line = impair.hung_up(net, "dsl")
        prober.wait_for("dsl", "down", SOON)
        prober.wait_settled()
        assert set(fetch_many(net.client, 30).sources) == {B}
        impair.lease_changed(net, "dsl", "11.1.1.33", "11.1.1.250")
        line.undo()
        impair.lease_changed(net, "cable", "6.6.6.77", "6.6.6.2")
        for link in net.uplinks:
            prober.wait_for(link, "up")
        prober.wait_settled()
        fetched = fetch_many(net.client, 100)
        assert (set(fetched.sources), fetched.failures) == ({"11.1.1.33", "6.6.6.77"}, [])
        assert net.spoofed() == 0
    assert "via 6.6.6.2 dev wan2" in net.router.ip("route show table mwan_cable")


def test_two_routers_on_one_segment(existing_routers: Topology, backend: str) -> None:
    """Both are used; each answers what came in through it; a dead one is found without the word of a carrier."""
    net = existing_routers
    net.variables = guides.declared("shared-segment.md", "Configuration")
    with watched(net, backend) as prober, AccessLogServer(net.router, 81):
        fetched = fetch_many(net.client, 100)
        assert (about(fetched.sources, {A: 1, B: 1}), fetched.failures) == (True, [])
        inbound = fetch_many(net.server, 60, [A, B], sources=[FRIEND], port=81)
        assert (dict(inbound.sources), inbound.failures) == ({FRIEND: 60}, [])
        with impair.gateway_dead(net, "router1"):
            prober.wait_for("router1", "down", SOON)
            prober.wait_settled()
            assert dict(fetch_many(net.client, 30).sources) == {B: 30}
    assert net.spoofed() == 0


def test_servers_behind_both_links(two_links: Topology) -> None:
    """Reached by both entrances, also from inside; mail leaves by one link, and by the other when that one is down."""
    net = two_links
    net.variables = guides.declared("servers.md", "Configuration")
    hosts = neighbour(net, WEB, MAIL)
    with (
        watched(net) as prober,
        Doors(hosts, [WEB, MAIL], [25, 80, 443]),
        Doors(net.server, ["7.7.7.7"], [25]),
        AccessLogServer(net.router, 81),
    ):
        for entrance in (A, B):
            asked = [tcp(entrance, 80, FRIEND), tcp(entrance, 443, FRIEND), udp(entrance, 443, FRIEND)]
            assert knock(net.server, *asked) == [f"{FRIEND} {WEB}:{port}" for port in (80, 443, 443)]
            assert knock(net.server, tcp(entrance, 25, FRIEND)) == [f"{FRIEND} {MAIL}:25"]
            assert knock(net.client, tcp(entrance, 80)) == [f"{LAN_ROUTER} {WEB}:80"], "hairpin"
        inbound = fetch_many(net.server, 40, [A, B], sources=[FRIEND], port=81)
        assert (dict(inbound.sources), inbound.failures) == ({FRIEND: 40}, []), "a service of the router"
        mail = [tcp("7.7.7.7", 25, MAIL)] * 20
        assert set(knock(hosts, *mail)) == {f"{A} 7.7.7.7:25"}
        with impair.black_hole(net, "isp_a"):
            prober.wait_for("isp_a", "down", SOON)
            prober.wait_settled()
            assert set(knock(hosts, *mail)) == {f"{B} 7.7.7.7:25"}
            assert knock(net.server, tcp(B, 80, FRIEND)) == [f"{FRIEND} {WEB}:80"]
        assert net.spoofed() == 0


RESET_LATE = f"""
import socket, struct
connections = [socket.create_connection(("{SERVER}", 80), 5) for _unused in range(10)]
print("ready", flush=True)
input()
for connection in connections:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
    connection.close()
"""


def untranslated(net: Topology) -> int:
    """How many packets have left with the client's address, after ten more resets that come too late."""
    client = net.client.popen([sys.executable, "-c", RESET_LATE], stdin=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    net.router.run("conntrack -F")
    client.communicate("\n", timeout=10)
    assert fetch_many(net.client, 1).answered == 1, "what was sent before it has passed"
    return net.spoofed()


@pytest.mark.parametrize("word", ["ct state invalid", "--ctstate INVALID"], ids=["nft", "iptables"])
def test_what_belongs_to_no_connection_is_kept_inside(two_links: Topology, word: str) -> None:
    """It leaves untranslated, until there is the rule of the page."""
    net = two_links
    program, *words = typed("variables.md", word).split()
    net.router.nft("table inet filter { chain forward { type filter hook forward priority filter; }; }")
    with Engine(net) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=[policy("isp_a")])
        assert untranslated(net) == 10
        net.router.run([program.replace("iptables", "iptables-legacy"), *words])
        assert untranslated(net) == 10


def test_lines_move_over_one_by_one(two_links: Topology) -> None:
    """As from mwan3 or VyOS to another machine: the first line is enough to begin with, the second comes later."""
    net = two_links
    net.variables = guides.declared("quickstart.md", "2. Write it down")
    with Engine(net) as engine, AccessLogServer(net.server), impair.cable_pulled(net, "isp_a") as elsewhere:
        engine.apply(mwan_probe=BRISK)
        with Prober(net.router) as prober:
            prober.wait_for("isp_b", "up")
            fetched = fetch_many(net.client, 30)
            assert (dict(fetched.sources), fetched.failures) == ({B: 30}, [])
            elsewhere.undo()
            prober.wait_for("isp_a", "up")
            prober.wait_settled()
            fetched = fetch_many(net.client, 60)
            assert (set(fetched.sources), fetched.failures) == ({A, B}, [])


SHOREWALL = """
    sysctl -qw net.ipv4.ip_forward=1
    ip route add default nexthop via 5.5.5.1 dev wan1 weight 3 nexthop via 6.6.6.1 dev wan2 weight 1
    for n in 1 2; do
      set -- $(test $n = 1 && echo 5.5.5.1 wan1 5.5.5.5 20000 || echo 6.6.6.1 wan2 6.6.6.6 20256)
      ip route add 192.168.101.0/24 dev lan0 table $n
      ip route add default via $1 dev $2 table $n
      ip rule add priority 1000$n fwmark $n/0xff lookup $n
      ip rule add priority $4 from $3 lookup $n
      iptables-legacy -t mangle -A PREROUTING -i $2 -m mark --mark 0/0xff -j CONNMARK --set-mark $n/0xff
      iptables-legacy -t nat -A POSTROUTING -s 192.168.101.0/24 -o $2 -j SNAT --to-source $3
    done
    iptables-legacy -t mangle -I PREROUTING -m connmark ! --mark 0/0xff -j CONNMARK --restore-mark --mask 0xff
"""
WITHOUT_PROVIDERS = """
    for p in 10001 10002 20000 20256; do ip rule del priority $p; done
    for t in 1 2; do ip route flush table $t; done
    iptables-legacy -t mangle -F PREROUTING
    iptables-legacy -t nat -F POSTROUTING
"""


def test_shorewall_hands_its_connections_over() -> None:
    """What it makes of the providers of the page, with connections; then the run, and the providers are emptied."""
    if problem := Iptables().unavailable():
        pytest.skip(problem)
    with (
        topology.two_links(clients=64) as net,  # of which all take one link once in a hundred million machines
        EchoServer(net.server),
        AccessLogServer(net.server),
    ):
        net.variables = guides.declared("migration-shorewall.md", "A whole configuration")
        net.router.run(f"set -e\n{SHOREWALL}")
        flows = [kind(net.client, number=64, sources=net.client_addresses) for kind in (LongLivedTcp, LongLivedUdp)]
        with Engine(net) as engine:
            hand_over(net, engine)
            ended = [stats for flow in flows for stats in flow.stop()]
            assert engine.apply().actions == []
        assert {source for flow in ended for source in flow.sources} == {A, B}
        assert [flow for flow in ended if flow.missing or flow.error or len(flow.sources) != 1] == []
        assert net.spoofed() == 0


def hand_over(net: Topology, engine: Engine) -> None:
    engine.apply()
    assert fetch_many(net.client, 40).failures == [], "side by side"
    net.router.run(f"set -e\n{WITHOUT_PROVIDERS}")
    fetched = fetch_many(net.client, 120)
    assert (about(fetched.sources, {A: 3, B: 1}), fetched.failures) == (True, [])


# what can be looked at in a lab: no service manager, no names, nobody to listen for
LOOKING = ("ip", "nft", "sysctl", "nstat", "conntrack", "cat", "mwanctl")


def test_what_troubleshooting_says_to_look_at_is_there(two_links: Topology) -> None:
    """On the router of the page; a search may find nothing, and that is all that may go wrong."""
    net = two_links
    forwards = [{"name": "web", "protocol": "tcp", "port": 443, "to": WEB}]
    with watched(net, mwan_dnat=forwards) as prober, impair.black_hole(net, "isp_a"):
        prober.wait_for("isp_a", "down", SOON)
        prober.wait_settled()
        asked = set(looking("troubleshooting.md"))
        assert len(asked) > 30
        for line in asked:
            done = net.router.run(line.replace("mwanctl", " ".join(command()), 1), check=False)
            allowed = (0, 1) if "grep" in line or "mwanctl diff" in line else (0,)
            assert done.returncode in allowed, (line, done.stdout, done.stderr)


def looking(page: str) -> Iterator[str]:
    """What a page says to type that only looks, and ends by itself."""
    for block in guides.command_blocks(guides.CHECKOUT / "docs" / page):
        for line in block:
            changing = re.search(r"monitor|flush|delete|ppp0| -- |drain|failback", line)
            if line.split()[0] in LOOKING and not changing:
                yield line
