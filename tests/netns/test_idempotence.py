# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A second run finds nothing to do: in every order of modules, after traffic, and after a reboot was repaired."""

from __future__ import annotations

import itertools

import pytest
from lab import topology
from lab.balance import policy
from lab.engine import Engine
from lab.state import forget_everything, snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

EVERYTHING = {
    "mwan_rules": [
        {
            "name": "voip",
            "source": "192.168.101.0/25",
            "protocol": "udp",
            "destination_port": "5060-5061",
            "link": "isp_a",
        },
        {"name": "backup", "destination": "7.7.7.99", "policy": "only_b"},
        {"name": "own", "device": "lo", "protocol": "tcp", "destination_port": 443, "policy": "only_b"},
    ],
    "mwan_policies": [
        policy(("isp_a", 3), ("isp_b", 1, 2), last_resort="main"),
        policy("isp_b", name="only_b", last_resort="blackhole"),
    ],
    "mwan_rp_filter": {"mode": "loose", "devices": {"lan0": "strict"}},
    "mwan_blackhole": ["10.99.0.0/16", "10.98.0.0/16"],
    "mwan_snat": [
        {"link": "isp_a", "source": ["192.168.101.0/24", "192.168.102.0/24"], "to": "5.5.5.5"},
        {"link": "isp_b", "to": "masquerade"},
    ],
}
BUILDERS = ["two_links", "shared_segment", "existing_routers", "point_to_point", "dhcp"]


@pytest.mark.parametrize("name", BUILDERS)
def test_second_run_changes_nothing(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    net: Topology = request.getfixturevalue(name)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.apply()
        before = snapshot(net.router)
        assert fetch_many(net.client, 50).failures == []
        assert engine.apply(check=True).actions == []
        assert engine.apply().actions == []
        assert snapshot(net.router) == before


def test_second_run_of_everything(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine:
        engine.settle(**EVERYTHING)
        before = snapshot(two_links.router)
        modules = [engine.links, engine.snat, engine.rp_filter, engine.policies]
        for order in itertools.permutations(modules):
            for module in order:
                assert module().actions == [], f"{module.__name__} in {[each.__name__ for each in order]}"
        assert snapshot(two_links.router) == before


def test_order_of_modules_makes_no_difference(backend: str) -> None:
    """Policies and SNAT name links, so links come first; the others come in any order and end in the same state."""
    states = []
    for order in (
        ("snat", "rp_filter", "policies"),
        ("policies", "rp_filter", "snat"),
        ("rp_filter", "policies", "snat"),
    ):
        with topology.two_links() as net, Engine(net, backend) as engine:
            engine.variables.update(EVERYTHING)
            for name in ("links", *order):
                getattr(engine, name)()
            assert engine.apply().actions == []
            states.append({kind: text for kind, text in snapshot(net.router).items() if kind != "routes"})
            states[-1]["routes"] = net.router.ip("route show table all proto mwan")
    assert states[0] == states[1] == states[2]


def test_order_of_the_lists_makes_no_difference(two_links: Topology, backend: str) -> None:
    """Links and sources in another order are the same router; ids do not follow the order."""
    with Engine(two_links, backend) as engine:
        engine.settle(**EVERYTHING)
        kernel = {kind: text for kind, text in snapshot(two_links.router).items() if kind != "files"}
        snat = [
            {**item, "source": item["source"][::-1]} if "source" in item else item
            for item in engine.variables["mwan_snat"]
        ]
        engine.apply(mwan_links=engine.variables["mwan_links"][::-1], mwan_snat=snat)
        after = snapshot(two_links.router)
        assert {kind: after[kind] for kind in kernel} == kernel


@pytest.mark.parametrize("name", BUILDERS)
def test_reboot_is_restored_exactly(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    net: Topology = request.getfixturevalue(name)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        before = snapshot(net.router)
        forget_everything(net.router)
        assert "1000:" not in net.router.ip("rule show")
        repaired = engine.links()
        assert repaired.has("ip rule add")
        assert repaired.has(f"add {backend} rules")
        assert snapshot(net.router) == before
        assert engine.apply().actions == []
        assert fetch_many(net.client, 50).failures == []


def test_reboot_of_everything(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine:
        engine.settle(**EVERYTHING)
        before = snapshot(two_links.router)
        forget_everything(two_links.router)
        engine.rp_filter()
        assert snapshot(two_links.router) == before
        assert engine.apply().actions == []


def test_removal_leaves_the_router_as_it_was(two_links: Topology, backend: str) -> None:
    """Only the base chains of legacy tables stay loaded (the kernel cannot unload them), and the stored settings."""
    net = two_links
    if backend == "iptables":
        net.router.run("iptables-legacy -t mangle -L -n; iptables-legacy -t nat -L -n")
    net.router.sysctl("net.ipv4.conf.wan1.rp_filter", 1)
    before = snapshot(net.router)
    with Engine(net, backend) as engine:
        engine.settle(**EVERYTHING)
        assert engine.remove_all().changed
        assert engine.apply().actions == []
    after = snapshot(net.router)
    before.pop("files")
    assert {kind: after[kind] for kind in before} == before


def test_ids_are_stable(backend: str) -> None:
    with topology.many_links(4) as net, Engine(net, backend) as engine:
        links, snat = net.variables["mwan_links"], net.variables["mwan_snat"]
        names = [link["name"] for link in links]

        def declared(*chosen: int) -> dict[str, object]:
            return {
                "mwan_links": [links[n] for n in chosen],
                "mwan_snat": [snat[n] for n in chosen],
                "mwan_policies": [policy(*(names[n] for n in chosen))],
            }

        first = engine.settle(**declared(1, 2, 3)).links
        second = engine.settle(**declared(0, 3, 1)).links
        third = engine.settle(**declared(2, 0, 3, 1)).links
        for name in (names[1], names[3]):
            assert first[name]["id"] == second[name]["id"] == third[name]["id"]
        assert len({link["id"] for link in third.values()}) == 4
