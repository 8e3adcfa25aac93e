# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the router opens itself: which rules it follows, with which source address, and what it is bound to.

Source NAT is for the LAN alone, so whose address the server sees was chosen by the kernel, or mended by us. The default
policy uses isp_c only: what is seen from another link followed a rule.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import impair, topology
from lab.balance import policy
from lab.engine import Engine
from lab.own import Own, control_group
from lab.topology import SERVER, Topology
from lab.traffic import EchoServer

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
COURIER, CLERK, CREW = 4711, 4712, 4713
POLICIES = [policy("isp_c"), policy("isp_a", name="only_a"), policy("isp_b", name="only_b")]
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@contextmanager
def router(backend: str, **variables: Any) -> Iterator[tuple[Topology, Engine, Own]]:
    """A router over three links, with accounts that rules name; and a process of it that opens connections."""
    with topology.three_links() as net, Engine(net, backend) as engine, EchoServer(net.server):
        net.router.run(f"echo 'courier:x:{COURIER}:{COURIER}::/:/bin/false' >> /etc/passwd")
        net.router.run(f"echo 'crew:x:{CREW}:' >> /etc/group")
        engine.settle(**{"mwan_classify": "marks", "mwan_policies": POLICIES, **variables})
        with Own(net.router) as own:
            yield net, engine, own
        assert net.spoofed() == 0


def test_rules_that_routing_knows(backend: str) -> None:
    """They hold when a socket is connected, so the source address is right from the beginning."""
    rules = [
        {"name": "courier", "user": "courier", "link": "isp_b"},
        {"name": "clerk", "user": CLERK, "policy": "only_a"},
        {"name": "nobody", "user": "nosuchuser", "link": "isp_b"},
        {"name": "dns", "protocol": "udp", "destination_port": 53, "policy": "only_b"},
        {"name": "dns_tcp", "protocol": "tcp", "destination_port": "53", "policy": "only_b"},
        {"name": "vpn", "destination": ["7.7.7.32/28", "7.7.7.9"], "link": "isp_a"},
        {"name": "foreign", "mark": "0x10000/0xff0000", "link": "isp_b"},
        {"name": "no_ftp", "device": "lo", "protocol": "tcp", "destination_port": 21, "target": "unreachable"},
    ]
    with router(backend, mwan_rules=rules) as made, EchoServer(made[0].server, 53):
        __net, _engine, own = made
        for protocol in ("tcp", "udp"):
            assert own.seen(protocol=protocol) == {C: 4}
            assert own.seen(protocol=protocol, user=COURIER) == {B: 4}
            assert own.seen(protocol=protocol, user=CLERK, destination="7.7.7.33") == {A: 4}
            assert own.seen(protocol=protocol, port=53) == {B: 4}
            assert own.seen(protocol=protocol, user=CLERK, port=53) == {A: 4}, "the first that matches decides"
            assert own.seen(protocol=protocol, destination="7.7.7.33") == {A: 4}
            assert own.seen(protocol=protocol, destination="7.7.7.9") == {A: 4}
            assert own.seen(protocol=protocol, mark=0x5110002) == {C: 4}
            assert own.seen(protocol=protocol, mark=0x7F010002) == {B: 4}
        assert own.seen(1, port=21) == {"EHOSTUNREACH": 1}
        # what is bound stays
        for source, device in ((A, "wan1"), (B, "wan2")):
            for bound in ({"source": source}, {"device": device}, {"source": source, "device": device}):
                for who in (None, COURIER, CLERK):
                    assert own.seen(user=who, **bound) == {source: 4}, (bound, who)
                    assert own.seen(protocol="udp", user=who, port=53, **bound) == {source: 4}, (bound, who)


def test_rules_that_only_the_firewall_knows(backend: str) -> None:
    """The source address was chosen before the mark that leads elsewhere, and is mended."""
    today = time.gmtime().tm_wday
    near = [DAYS[(today + days) % 7] for days in (-1, 0, 1)]
    rules = [
        {"name": "never", "time": {"days": [day for day in DAYS if day not in near]}, "link": "isp_b"},
        {"name": "crew", "group": "crew", "link": "isp_b"},
        {"name": "numbered", "group": CLERK, "policy": "only_a"},
        {"name": "clerk", "user": CLERK, "link": "isp_a"},
        {"name": "voice", "dscp": "ef", "policy": "only_b"},
        {"name": "office", "destination": "@office", "link": "isp_a"},
        {"name": "refused", "dscp": "cs1", "target": "unreachable"},
        {"name": "now", "time": {"days": near}, "destination": "7.7.7.9", "link": "isp_b"},
    ]
    # the algorithm is for what is forwarded
    spread = policy("isp_c", algorithm="round_robin")
    sets = [{"name": "office", "networks": ["7.7.7.32/28"], "files": ["/etc/office"]}]
    with router(backend) as (net, engine, own):
        net.router.run("echo '7.7.7.48/32 # annexe' > /etc/office")
        engine.settle(mwan_rules=rules, mwan_sets=sets, mwan_policies=[spread, *POLICIES[1:]])
        engine.settle(mwan_rp_filter={"mode": "strict"})
        for protocol in ("tcp", "udp"):
            assert own.seen(protocol=protocol) == {C: 4}
            assert own.seen(protocol=protocol, group=CREW) == {B: 4}
            assert own.seen(protocol=protocol, group=CREW, user=CLERK) == {B: 4}, "the first that matches decides"
            assert own.seen(protocol=protocol, group=CLERK) == {A: 4}
            assert own.seen(protocol=protocol, user=CLERK, tos=46 << 2) == {A: 4}, "one of routing before one of marks"
            assert own.seen(protocol=protocol, tos=46 << 2) == {B: 4}
            assert own.seen(protocol=protocol, destination="7.7.7.33") == {A: 4}
            assert own.seen(protocol=protocol, destination="7.7.7.48") == {A: 4}
            assert own.seen(protocol=protocol, destination="7.7.7.9") == {B: 4}
            assert own.seen(protocol=protocol, mark=0x200, destination="7.7.7.33") == {B: 4}, "a mark of ours"
        assert own.seen(1, protocol="udp", tos=8 << 2) == {"EHOSTUNREACH": 1}
        assert own.seen(1, tos=8 << 2, timeout=0.5) == {"timeout": 1}, "the kernel takes the packet for lost"
        assert engine.remove_all().changed
        assert "mwan" not in net.router.run("nft list ruleset; ip rule; iptables-legacy-save").stdout.lower()


@pytest.mark.parametrize("root", ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"])
def test_control_groups(backend: str, root: str) -> None:
    """Where version 2 is alone, and where it is beside version 1."""
    with router(backend) as made, control_group(made[0].router, root) as path:
        net, engine, own = made
        engine.settle(mwan_rules=[{"name": "service", "cgroup": path.name, "link": "isp_b"}])
        for protocol in ("tcp", "udp"):
            assert own.seen(protocol=protocol, cgroup=path) == {B: 4}
            assert own.seen(protocol=protocol) == {C: 4}
        # a service that is started again has a group of the same name and another number
        net.router.run(f"rmdir {path}; mkdir {path}")
        assert engine.settle().changed
        assert own.seen(cgroup=path) == {B: 4}
        net.router.run(f"rmdir {path}")
        assert "there is no cgroup" in " ".join(engine.settle().warnings)
        net.router.run(f"mkdir {path}")
        engine.settle()
        assert own.seen(cgroup=path) == {B: 4}
        # what is bound to a device keeps it
        for protocol in ("tcp", "udp"):
            assert own.seen(protocol=protocol, cgroup=path, device="wan1") == {A: 4}


def test_users_tell_only_the_routers_own_traffic_without_marks_too(backend: str) -> None:
    """To policy routing, what is forwarded is root's."""
    rules = [{"name": "root", "user": "root", "link": "isp_b"}, {"name": "courier", "user": "courier", "link": "isp_a"}]
    with router(backend, mwan_classify="routing", mwan_rules=rules) as (net, _engine, own):
        assert (own.seen(), own.seen(user=COURIER), own.seen(user=CLERK)) == ({B: 4}, {A: 4}, {C: 4})
        with Own(net.client) as client:
            assert client.seen() == {C: 4}


def outage(net: Topology, engine: Engine, link: str) -> None:
    """As the prober reports it."""
    links = {link: {"state": "down", "reason": "as written"}} if link else {}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": links}))
    engine.settle()


def test_own_connections_leave_a_dead_link(backend: str) -> None:
    policies = [*POLICIES, policy("isp_a", ("isp_b", 1, 2), name="first_a")]
    rules = [
        {"name": "courier", "user": COURIER, "policy": "first_a"},
        {"name": "crew", "group": CREW, "policy": "first_a"},
        {"name": "fixed", "user": CLERK, "link": "isp_a"},
        {"name": "marked", "group": CLERK, "link": "isp_a"},
    ]
    who: list[dict[str, Any]] = [{"user": COURIER}, {"group": CREW}]
    fixed: list[dict[str, Any]] = [{"user": CLERK}, {"group": CLERK}]
    with router(backend, mwan_policies=policies, mwan_rules=rules) as (net, engine, own):

        def seen(kinds: list[dict[str, Any]], **more: Any) -> list[dict[str, int]]:
            return [own.seen(2, **kind, **more) for kind in kinds]

        assert seen(who + fixed) == [{A: 2}] * 4
        outage(net, engine, "isp_a")
        assert seen(who) == [{B: 2}] * 2
        assert seen(fixed) == [{A: 2}] * 2, "the link and no other: it is silent, as far as the prober knows"
        outage(net, engine, "")
        with impair.cable_pulled(net, "isp_a"):
            impair.wait_noticed(net, "isp_a")
            assert seen(who) == [{B: 2}] * 2, "before anybody but the kernel has noticed"
            refused = seen(fixed, protocol="udp")
            assert {A, B, C}.isdisjoint({what for counted in refused for what in counted}), refused
        # what becomes of them when nothing of the policy is left
        for last_resort, expected in (("unreachable", "EHOSTUNREACH"), ("blackhole", "EINVAL"), ("main", C)):
            engine.settle(mwan_policies=[*POLICIES[:3], policy("isp_a", name="first_a", last_resort=last_resort)])
            with impair.cable_pulled(net, "isp_a"):
                impair.wait_noticed(net, "isp_a")
                assert seen(who[:1], protocol="udp") == [{expected: 2}], last_resort


# every source of an echo request that arrives, remembered
PINGED = """
table inet seen {
  set pinged { type ipv4_addr; flags dynamic; size 100; }
  chain arriving {
    type filter hook input priority 0
    icmp type echo-request add @pinged { ip saddr }
  }
}
"""


def pinged(net: Topology, *bound: str) -> set[str]:
    """From where the server sees the router's pings."""
    net.server.run("nft flush set inet seen pinged")
    net.router.run(["ping", "-c2", "-i0.2", "-W1", *bound, "7.7.7.7"])
    return set(re.findall(r"\d+\.\d+\.\d+\.\d+", net.server.run("nft list set inet seen pinged").stdout))


def test_what_is_bound_stays_though_the_firewall_leads_all_else(backend: str) -> None:
    everything = {"name": "all", "dscp": 0, "policy": "only_b"}
    kept = [{"name": f"from_{link}", "device": "lo", "source": source, "link": link} for link, source in
            {"isp_a": A, "isp_c": C}.items()]  # fmt: skip
    policies = [policy("isp_b"), *POLICIES[1:]]
    with router(backend, mwan_rules=[everything]) as made, EchoServer(made[0].router):
        net, engine, own = made
        net.server.nft(PINGED)
        assert (own.seen(), pinged(net)) == ({B: 4}, {B})
        for source, device in ((A, "wan1"), (B, "wan2"), (C, "wan3")):
            assert own.seen(device=device) == own.seen(device=device, source=source) == {source: 4}
            assert own.seen(protocol="udp", device=device) == {source: 4}
            assert pinged(net, "-I", device) == {source}
        for marked in engine.apply().links.values():
            assert own.seen(mark=int(marked["mark"], 16)) == {marked["address"]: 4}, "mwanctl use"
        # an address that was bound looks as one that was chosen; a rule that routing knows keeps it
        assert own.seen(source=A) == {B: 4}
        engine.settle(mwan_rules=[*kept, everything], mwan_policies=policies)
        assert (own.seen(), pinged(net)) == ({B: 4}, {B})
        for source in (A, B, C):
            assert own.seen(source=source) == own.seen(protocol="udp", source=source) == {source: 4}
            assert pinged(net, "-I", source) == {source}
        # what begins outside is answered by the link it came by, whatever the answers look like
        with Own(net.server) as outside:
            for address in (A, B, C):
                assert outside.seen(destination=address, source=SERVER) == {SERVER: 4}
                assert outside.seen(protocol="udp", destination=address, source=SERVER) == {SERVER: 4}


def test_check_mode_tells_what_a_run_does(backend: str) -> None:
    to_b = [{"name": "crew", "group": "crew", "link": "isp_b"}, {"name": "clerk", "user": CLERK, "policy": "only_b"}]
    to_a = [{"name": "crew", "group": "crew", "policy": "only_a"}, {"name": "clerk", "user": CLERK, "link": "isp_a"}]
    with router(backend) as (_net, engine, own):
        for rules, source in ((to_b, B), (to_a, A), ([], C)):
            told = engine.apply(check=True, mwan_rules=rules)
            done = engine.settle(mwan_rules=rules)
            assert (told.actions != [], sorted(set(told.actions))) == (True, sorted(set(done.actions)))
            assert (own.seen(group=CREW), own.seen(user=CLERK)) == ({source: 4}, {source: 4})


@pytest.mark.parametrize("name", ["shared_segment", "point_to_point"])
def test_links_of_every_kind(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    """Two routers on one segment have one address of ours between them, so there nothing is to be mended."""
    net: Topology = request.getfixturevalue(name)
    rules = []
    for number, link in enumerate(net.sources):
        rules.append({"name": f"user_{link}", "user": COURIER + number, "link": link})
        rules.append({"name": f"group_{link}", "group": COURIER + number, "policy": f"only_{link}"})
    policies = [*net.variables["mwan_policies"], *(policy(link, name=f"only_{link}") for link in net.sources)]
    with Engine(net, backend) as engine, EchoServer(net.server), Own(net.router) as own:
        engine.settle(mwan_classify="marks", mwan_policies=policies, mwan_rules=rules)
        for number, source in enumerate(net.sources.values()):
            for protocol in ("tcp", "udp"):
                assert own.seen(protocol=protocol, user=COURIER + number) == {source: 4}
                assert own.seen(protocol=protocol, group=COURIER + number) == {source: 4}
        assert own.seen(40).keys() == set(net.sources.values())
        assert net.spoofed() == 0


def test_marks_that_another_firewall_gives_come_after_the_route(backend: str) -> None:
    """A rule that only the firewall can follow, as with a code point beside the mark, leads them all the same."""
    rule = {"name": "foreign", "device": "lo", "mark": "0x10000/0xff0000", "link": "isp_b"}
    with router(backend, mwan_rules=[rule]) as (net, engine, own):
        chain = f"type route hook output priority -160; skuid {CLERK} mark set 0x10001;"
        net.router.nft(f"table inet tenant {{ chain own {{ {chain} }}; }}")
        assert (own.seen(mark=0x10001), own.seen(user=CLERK)) == ({B: 4}, {C: 4})
        engine.settle(mwan_rules=[{**rule, "dscp": 0}])
        assert (own.seen(mark=0x10001), own.seen(user=CLERK), own.seen()) == ({B: 4}, {B: 4}, {C: 4})
