# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the kernel tells when something happens to a link, and what the monitor makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab import impair
from lab.engine import Engine
from lab.lab import Lab
from lab.monitor import SOON, Monitor, Told
from lab.topology import Topology

WATCHED: dict[str, Any] = {
    "devices": ["wan1", "wan2", "ppp0"],
    "gateways": [("wan1", "5.5.5.1"), ("wan2", "6.6.6.1")],
    "tables": [1001, 1002, 1003],
}
TINY = 4096
# seconds, on a machine that is busy with other tests as well, and where it lets one of several wait
PROMPT, LATE = 0.1, 1.0


@pytest.fixture
def monitor(two_links: Topology) -> Iterator[Monitor]:
    with Monitor(two_links.router, **WATCHED) as running:
        yield running


@pytest.fixture
def tiny(two_links: Topology) -> Iterator[Monitor]:
    """A buffer for a handful of messages."""
    with Monitor(two_links.router, TINY, **WATCHED) as running:
        yield running


def plain(told: list[Told]) -> list[tuple[Any, ...]]:
    """Kind and fields, without the time; of a rule or route only whether it is present."""
    left_out = ("when", "route", "rule", "mac")
    return [tuple(value for name, value in event.items() if name not in left_out) for event in told]


def link(device: str, present: bool, up: bool, carrier: bool) -> tuple[Any, ...]:
    return ("LinkEvent", device, present, up, carrier)


def test_carrier_is_told_at_once(two_links: Topology, monitor: Monitor) -> None:
    late = []
    for _trial in range(5):
        for carrier in (False, True):
            began = time.monotonic()
            two_links.uplinks["isp_a"].provider.ip(f"link set cust {'up' if carrier else 'down'}")
            ended = time.monotonic()
            event = monitor.wait("LinkEvent")
            assert plain([event]) == [link("wan1", True, True, carrier)]
            assert began < event["when"]
            late.append(event["when"] - ended)
    assert sorted(late)[len(late) // 2] < PROMPT
    assert max(late) < LATE
    assert monitor.rest() == []


def test_slow_kind_of_carrier_is_told_as_well() -> None:
    """A veth whose index is that of its peer is no pair to linkwatch, which then speaks once a second."""
    with Lab("slow") as lab:
        router, provider = lab.host("router"), lab.host("provider")
        router.ip(f"link add wan1 index 50 type veth peer name cust index 50 netns {provider.pid}")
        router.ip("link set wan1 up")
        provider.ip("link set cust up")
        with Monitor(router, devices=["wan1"]) as monitor:
            monitor.rest()
            provider.ip("link set cust down")
            monitor.wait("LinkEvent", 3, carrier=False)
            provider.ip("link set cust up")
            monitor.wait("LinkEvent", 3, carrier=True)


def test_device_that_comes_back_under_another_index(two_links: Topology, monitor: Monitor) -> None:
    router, provider = two_links.router, two_links.uplinks["isp_a"].provider
    router.ip("link del wan1")
    told = plain(monitor.rest(SOON))
    assert link("wan1", False, False, False) in told
    assert ("AddressEvent", "wan1", "5.5.5.5", False) in told
    router.ip(f"link add wan1 index 777 type veth peer name cust netns {provider.pid}")
    assert plain(monitor.rest(SOON)) == [link("wan1", True, False, False)]
    router.ip("link set wan1 up")
    provider.ip("link set cust up")
    monitor.wait("LinkEvent", device="wan1", up=True, carrier=True)
    router.ip("addr add 5.5.5.5/24 dev wan1")
    assert plain(monitor.rest(SOON)) == [("AddressEvent", "wan1", "5.5.5.5", True)]


def test_line_that_hangs_up(point_to_point: Topology) -> None:
    with Monitor(point_to_point.router, **WATCHED) as monitor:
        hung_up = impair.hung_up(point_to_point, "line_x")
        monitor.wait("LinkEvent", device="ppp0", present=False)
        hung_up.undo()
        monitor.wait("AddressEvent", device="ppp0", address="11.1.1.1", present=True)
        monitor.wait("LinkEvent", device="ppp0", present=True, up=True, carrier=True)


def test_renamed_device_is_gone_under_its_name(two_links: Topology, monitor: Monitor) -> None:
    two_links.router.ip("link set wan1 down")
    monitor.rest()
    two_links.router.ip("link set wan1 name other")
    assert plain(monitor.rest(SOON)) == [link("wan1", False, False, False)]
    two_links.router.ip("link set other name wan1")
    assert link("wan1", True, False, False) in plain(monitor.rest(SOON))


def test_port_that_leaves_a_bridge_is_not_gone(two_links: Topology, monitor: Monitor) -> None:
    router = two_links.router
    router.ip("link add br9 type bridge")
    router.ip("link set wan1 master br9")
    router.ip("link set wan1 nomaster")
    assert not [event for event in monitor.rest() if event["what"] == "LinkEvent" and not event["present"]]


def test_addresses(two_links: Topology, monitor: Monitor) -> None:
    router = two_links.router
    router.ip("addr add 5.5.5.9/24 dev wan1")
    router.ip("addr add 169.254.3.3/16 scope link dev wan1")
    router.ip("addr add 192.168.101.9/24 dev lan0")
    router.ip("addr del 5.5.5.9/24 dev wan1")
    both = [("AddressEvent", "wan1", "5.5.5.9", present) for present in (True, False)]
    assert plain(monitor.rest(SOON)) == both


def test_what_is_ours(two_links: Topology, monitor: Monitor) -> None:
    router = two_links.router
    with Engine(two_links) as engine:
        engine.settle()
        told = {event["what"] for event in monitor.rest(SOON)}
        assert told >= {"OwnRuleEvent", "OwnRouteEvent"}, "our own changes, too"
        router.ip("rule add pref 900 lookup main")
        router.ip("rule del pref 900")
        router.ip("route add 203.0.113.0/24 via 5.5.5.1")
        assert monitor.rest() == [], "rules and networks of others"
        router.ip("route add blackhole 203.0.113.0/25 proto 77")
        assert monitor.wait("OwnRouteEvent", present=True)["route"]["destination"] == "203.0.113.0/25"
        ours = router.ip_json("rule show")
        priority = next(rule["priority"] for rule in ours if rule.get("protocol") in ("mwan", "77"))
        router.ip(f"rule del pref {priority} protocol 77")
        assert monitor.wait("OwnRuleEvent", present=False)["rule"]["priority"] == priority
        router.ip("route del default table 1001 metric 0")
        gone = monitor.wait("OwnRouteEvent", present=False)["route"]
        assert (gone["table"], gone["destination"], gone["nexthops"][0]["device"]) == (1001, "default", "wan1")
        router.ip("route replace default via 6.6.6.1 dev wan2 table 1002 metric 0")
        taken = monitor.wait("OwnRouteEvent", present=True)["route"]
        assert (taken["table"], taken["source"]) == (1002, None), "ours was replaced, and the kernel tells the new one"
        router.ip("route del default table 1002 metric 0")
        monitor.wait("OwnRouteEvent", present=False)
        assert len(engine.apply().actions) == 4
        assert sorted(plain(monitor.rest(SOON))) == [
            ("OwnRouteEvent", False),
            ("OwnRouteEvent", True),
            ("OwnRouteEvent", True),
            ("OwnRuleEvent", True),
        ]


def test_lease_that_changes(dhcp: Topology) -> None:
    with Monitor(dhcp.router, **WATCHED) as monitor:
        impair.lease_changed(dhcp, "isp_a", "5.5.5.77", "5.5.5.2")
        monitor.wait("AddressEvent", device="wan1", address="5.5.5.5", present=False)
        monitor.wait("AddressEvent", device="wan1", address="5.5.5.77", present=True)
        learned = monitor.wait("DefaultRouteEvent", device="wan1", present=True)["route"]
        assert (learned["nexthops"][0]["gateway"], learned["source"]) == ("5.5.5.2", "5.5.5.77")
        dhcp.router.ip("route del default dev wan2")
        lost = monitor.wait("DefaultRouteEvent", device="wan2", present=False)["route"]
        assert lost["nexthops"][0]["gateway"] == "6.6.6.1"
        dhcp.router.ip("route add default dev lan0 metric 900")
        dhcp.router.ip("route add default via 6.6.6.1 dev wan2 table 1500")
        assert monitor.rest() == [], "a device that is not watched; a table that is not main"


def test_gateway_that_dies(two_links: Topology, monitor: Monitor) -> None:
    router = two_links.router
    for name in ("wan1", "wan2"):
        router.sysctl(f"net.ipv4.neigh.{name}.retrans_time_ms", 100)
    with impair.gateway_dead(two_links, "isp_a"):
        for address in ("5.5.5.1", "5.5.5.98"):
            router.run(f"ping -c1 -W1 {address}", check=False)
        monitor.wait("NeighbourEvent", device="wan1", address="5.5.5.1", state="failed")
        router.run("ping -c1 -W1 6.6.6.1")
        alive = monitor.wait("NeighbourEvent", device="wan2", address="6.6.6.1", state="reachable")
        assert len(alive["mac"].split(":")) == 6
    router.run("ping -c1 -W1 5.5.5.1")
    monitor.wait("NeighbourEvent", device="wan1", address="5.5.5.1", state="reachable")
    router.ip("neigh del 5.5.5.1 dev wan1")
    monitor.wait("NeighbourEvent", device="wan1", address="5.5.5.1", state="gone")
    monitor.watch(gateways=[("wan1", "5.5.5.98")])
    router.ip("neigh replace 5.5.5.98 dev wan1 lladdr 02:00:00:00:00:09")
    monitor.wait("NeighbourEvent", device="wan1", address="5.5.5.98", state="permanent", mac="02:00:00:00:00:09")


def test_overrun(two_links: Topology, tiny: Monitor) -> None:
    """What was still waiting is not told: the caller, who reads everything now, would be misled by it."""
    router = two_links.router
    with tiny.stopped():
        changes = [f"addr {verb} 5.5.5.9/24 dev wan1" for _turn in range(50) for verb in ("add", "del")]
        router.run(["ip", "-batch", "-"], input="\n".join([*changes, "link set wan1 down", "link del wan2", ""]))
    assert plain(tiny.rest(SOON)) == [("Overrun",)]
    router.ip("link set wan1 up")
    tiny.wait("LinkEvent", device="wan1", present=True, up=True, carrier=True)
    router.ip("addr add 5.5.5.9/24 dev wan1")
    tiny.wait("AddressEvent", device="wan1", address="5.5.5.9", present=True)


def test_what_is_not_watched_never_overruns(two_links: Topology, tiny: Monitor) -> None:
    """The kernel keeps it away: the neighbours of a busy LAN, others on a link's segment, and the routes of daemons."""
    router = two_links.router
    entries = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    lines = [
        f"neigh add {entry} dev {device} lladdr 02:00:00:00:00:01" for entry in entries for device in ("lan0", "wan1")
    ]
    lines += [f"route add {entry} via 5.5.5.1 proto bgp" for entry in entries]
    with tiny.stopped():
        router.run(["ip", "-batch", "-"], input="\n".join([*lines, "addr add 5.5.5.9/24 dev wan1", ""]))
    assert plain(tiny.rest(SOON)) == [("AddressEvent", "wan1", "5.5.5.9", True)]


@pytest.mark.parametrize("gateways", [1000, 1001])
def test_many_gateways(two_links: Topology, gateways: int) -> None:
    """The kernel takes no longer a filter; with more of them only Reader looks for the address."""
    listed = [("wan1", f"5.5.{number // 250}.{number % 250 + 1}") for number in range(gateways)]
    with Monitor(two_links.router, gateways=listed) as monitor:
        for address in ("5.5.200.1", listed[-1][1]):
            two_links.router.ip(f"neigh add {address} dev wan1 lladdr 02:00:00:00:00:01")
        assert [event["address"] for event in monitor.rest(SOON)] == [listed[-1][1]]


def test_a_callback_that_fails_loses_nothing(two_links: Topology, monitor: Monitor) -> None:
    monitor.order("raise")
    with monitor.stopped():
        for address in ("5.5.5.8", "5.5.5.9"):
            two_links.router.ip(f"addr add {address}/24 dev wan1")
    assert [event["address"] for event in monitor.rest(SOON)] == ["5.5.5.8", "5.5.5.9"]
