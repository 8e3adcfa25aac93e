# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links follow what the kernel has: devices that are not there yet, learned gateways, addresses that change."""

from __future__ import annotations

from typing import Any

import pytest
from lab import impair
from lab.balance import policy
from lab.engine import Engine, RefusedError
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many


def test_absent_device_is_pending_until_it_appears(point_to_point: Topology, backend: str) -> None:
    net = point_to_point
    line = impair.hung_up(net, "line_x")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        outcome = engine.settle()
        assert outcome.links["line_x"]["pending"] == "device ppp0 does not exist"
        assert any("line_x" in warning and "ppp0" in warning for warning in outcome.warnings)
        fetched = fetch_many(net.client, 20)
        assert (dict(fetched.sources), fetched.failures) == ({"22.2.2.2": 20}, [])
        line.undo()
        outcome = engine.settle()
        assert (outcome.links["line_x"]["pending"], outcome.warnings) == (None, [])
        assert set(fetch_many(net.client, 60).sources) == {"11.1.1.1", "22.2.2.2"}


def test_device_that_is_down_or_has_no_address_is_pending(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.ip("link set wan1 down")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        assert "down" in engine.settle().links["isp_a"]["pending"]
        net.router.ip("addr flush dev wan1")
        net.router.ip("link set wan1 up")
        assert "no address" in engine.settle().links["isp_a"]["pending"]
        assert dict(fetch_many(net.client, 20).sources) == {"6.6.6.6": 20}
        net.router.ip("addr add 5.5.5.5/24 dev wan1")
        assert engine.settle().links["isp_a"]["pending"] is None
        assert set(fetch_many(net.client, 60).sources) == {"5.5.5.5", "6.6.6.6"}


def test_router_without_any_way_out_is_not_taken_over(two_links: Topology) -> None:
    two_links.router.ip("link set wan1 down")
    two_links.router.ip("link set wan2 down")
    with Engine(two_links) as engine, pytest.raises(RefusedError, match="no link in service"):
        engine.apply()


def test_lease_is_followed(dhcp: Topology, backend: str) -> None:
    net = dhcp
    with Engine(net, backend) as engine, AccessLogServer(net.server), AccessLogServer(net.router, 81):
        first = engine.settle().links["isp_a"]
        assert (first["address"], first["gateway"]) == ("5.5.5.5", "5.5.5.1")
        assert set(fetch_many(net.client, 60).sources) == {"5.5.5.5", "6.6.6.6"}
        impair.lease_changed(net, "isp_a", "5.5.5.77", "5.5.5.2")
        second = engine.settle().links["isp_a"]
        assert (second["address"], second["gateway"]) == ("5.5.5.77", "5.5.5.2")
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.77", "6.6.6.6"}, [])
        assert fetch_many(net.server, 10, "5.5.5.77", sources=["7.7.7.71"], port=81).failures == []
        assert net.spoofed() == 0


def test_link_waits_for_its_lease(dhcp: Topology, backend: str) -> None:
    net = dhcp
    net.router.ip("route del default dev wan1")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        assert engine.settle().links["isp_a"]["pending"] == "no gateway has been learned on wan1"
        net.router.ip("route add default via 5.5.5.1 dev wan1 proto dhcp src 5.5.5.5 metric 100")
        engine.settle()
        assert set(fetch_many(net.client, 60).sources) == {"5.5.5.5", "6.6.6.6"}


def test_default_routes_of_others_in_main_do_not_interfere(dhcp: Topology, backend: str) -> None:
    """suppress_prefixlength: DHCP's default route in main is read, and stays, and carries nothing of ours."""
    net = dhcp
    before = net.router.ip("route show default")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=[policy("isp_b")])
        assert dict(fetch_many(net.client, 20).sources) == {"6.6.6.6": 20}
    assert net.router.ip("route show default") == before


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gateway": ({"gateway": "5.5.5.256"}, r"links\[0\]\.gateway"),
    "address": (
        {"address": "5.5.5.6"},
        r"links\.isp_a\.address.*5\.5\.5\.6.*not an address of wan1.*It has 5\.5\.5\.5",
    ),
    "no gateway": ({"gateway": None}, r"links\.isp_a\.gateway.*missing.*wan1 is not a point-to-point device"),
    "name": ({"name": "ISP-A"}, r"links\[0\]\.name"),
    "weight": ({"weight": 1000}, r"links\[0\]\.weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_link_is_refused_before_anything_is_touched(two_links: Topology, case: str) -> None:
    wrong, message = REFUSED[case]
    first, second = two_links.variables["mwan_links"]
    changed = {key: value for key, value in {**first, **wrong}.items() if value is not None}
    before = snapshot(two_links.router)
    with Engine(two_links) as engine, pytest.raises(RefusedError, match=message) as refused:
        engine.apply(mwan_links=[changed, second])
    assert refused.value.kind == "InputError"
    assert snapshot(two_links.router) == before


def test_gateway_outside_the_subnet_is_reached_onlink(two_links: Topology, backend: str) -> None:
    net = two_links
    net.uplinks["isp_a"].provider.ip("addr add 100.100.100.1/32 dev cust")
    first, second = net.variables["mwan_links"]
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_links=[{**first, "gateway": "100.100.100.1"}, second])
        route = net.router.ip("route show table mwan_isp_a").splitlines()[0]
        assert {"100.100.100.1", "wan1", "5.5.5.5", "onlink"} <= set(route.split())
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.5", "6.6.6.6"}, [])
