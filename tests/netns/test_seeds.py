# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The classic multi-uplink setups, each with real traffic: what the server saw, and what the providers had to drop."""

from __future__ import annotations

import time

import pytest
from lab import impair, topology
from lab.balance import about, counted, counting, port_forward
from lab.engine import Engine
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, LongLivedTcp, LongLivedUdp, fetch_many

FRIENDS = ["7.7.7.71", "7.7.7.72"]
BUILDERS = ["two_links", "point_to_point", "existing_routers", "shared_segment"]


@pytest.mark.parametrize("name", BUILDERS)
def test_gateway_for_a_lan(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    """The first packet chooses by multipath, the rest follow their pin, SNAT by pin."""
    net: Topology = request.getfixturevalue(name)
    with Engine(net, backend) as engine, AccessLogServer(net.server) as server, EchoServer(net.server):
        engine.settle()
        fetched = fetch_many(net.client, 300)
        assert fetched.failures == []
        assert about(fetched.sources, dict.fromkeys(net.sources.values(), 1))
        assert server.sources() == fetched.sources
        with LongLivedTcp(net.client, number=10) as tcp, LongLivedUdp(net.client, number=10) as udp:
            time.sleep(0.2)
            flows = tcp.stop() + udp.stop()
        assert all(len(flow.sources) == 1 and not flow.missing and not flow.error for flow in flows)
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_split_access(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    """Friends connect through both links at once; each is answered through the link it came by."""
    net: Topology = request.getfixturevalue(name)
    entrances = list(net.sources.values())
    with Engine(net, backend) as engine, AccessLogServer(net.router, 81), AccessLogServer(net.client, 82):
        engine.settle()
        port_forward(net, backend, 8080, "192.168.101.1:82")
        for port in (81, 8080):
            fetched = fetch_many(net.server, 80, entrances, sources=FRIENDS, port=port)
            assert fetched.failures == []
            assert set(fetched.sources) == set(FRIENDS)
        assert net.spoofed() == 0


def test_split_access_with_long_connections(point_to_point: Topology, backend: str) -> None:
    net = point_to_point
    with Engine(net, backend) as engine, EchoServer(net.router), AccessLogServer(net.server):
        engine.settle()
        with (
            LongLivedTcp(net.server, "11.1.1.1", number=5, sources=FRIENDS) as by_x,
            LongLivedUdp(net.server, "22.2.2.2", number=5, sources=FRIENDS) as by_y,
        ):
            assert fetch_many(net.client, 50).failures == []
            flows = by_x.stop() + by_y.stop()
        assert all(not flow.missing and not flow.error and flow.answered for flow in flows)
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_router_itself_uses_both(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    """The router's own connections: unbound ones are spread, those bound to an address leave by its link."""
    net: Topology = request.getfixturevalue(name)
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        fetched = fetch_many(net.router, 200)
        assert fetched.failures == []
        assert set(fetched.sources) == set(net.sources.values())
        for uplink in net.uplinks.values():
            bound = fetch_many(net.router, 10, sources=[uplink.address])
            assert bound.failures == []
            if len({other.address for other in net.uplinks.values()}) > 1:
                assert bound.sources == {uplink.source: 10}
        assert net.spoofed() == 0


def test_bound_address_is_routed_by_its_own_table(two_links: Topology, point_to_point: Topology) -> None:
    for net in (two_links, point_to_point):
        with Engine(net) as engine:
            engine.settle()
        for uplink in net.uplinks.values():
            for source in (uplink.address, f"{uplink.address} oif {uplink.device}"):
                answer = net.router.ip(f"route get 7.7.7.7 from {source}")
                assert f"dev {uplink.device} table mwan_{uplink.name}" in answer
                assert (f"via {uplink.gateway}" in answer) == bool(uplink.gateway)


def test_weight_four_to_one(backend: str) -> None:
    with topology.two_links(clients=3, weights=(4, 1)) as net, Engine(net, backend) as engine:
        engine.settle()
        with AccessLogServer(net.server):
            fetched = fetch_many(net.client, 600, sources=net.client_addresses)
        assert fetched.failures == []
        assert about(fetched.sources, {"5.5.5.5": 4, "6.6.6.6": 1})
        assert "nexthop via 5.5.5.1 dev wan1 weight 4" in net.router.ip("route show table mwan_balanced")


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("name", ["two_links", "point_to_point"])
def test_pinned_connection_of_a_lost_line_is_refused(
    request: pytest.FixtureRequest, backend: str, name: str, protocol: str
) -> None:
    """Its packets never leave by the other line with an address the other provider would drop; the sender is told."""
    net: Topology = request.getfixturevalue(name)
    link, lost = next(iter(net.sources.items()))
    staying = next(source for source in net.sources.values() if source != lost)
    counting(net.client, "prohibited", "input", "icmp type destination-unreachable icmp code 13")
    with Engine(net, backend) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.settle()
        with Talk(net.client, want=lost, protocol=protocol, timeout=1.0) as pinned:
            assert pinned.ask() == lost
            if net.uplinks[link].tun:
                impair.hung_up(net, link)
            else:
                net.router.ip(f"link set {net.uplinks[link].device} down")
            assert pinned.ask() in (("EHOSTUNREACH",) if protocol == "udp" else ("timeout", "EHOSTUNREACH"))
            assert counted(net.client, "prohibited") > 0
        assert net.spoofed() == 0
        fetched = fetch_many(net.client, 50)
        assert (dict(fetched.sources), fetched.failures) == ({staying: 50}, [])


def test_bench_with_two_routers_on_one_segment(backend: str) -> None:
    """Client 192.168.101.1, core router 192.168.101.254 and 192.168.100.100, routers 192.168.100.1 and .2."""
    with topology.shared_segment(clients=9, weights=(3, 1)) as net, Engine(net, backend) as engine:
        engine.settle()
        with AccessLogServer(net.server) as server, EchoServer(net.server):
            fetched = fetch_many(net.client, 400, sources=net.client_addresses)
            assert fetched.failures == []
            assert about(server.sources(), {"192.168.122.65": 3, "192.168.122.66": 1})
            with Talk(net.client, want="192.168.122.66") as talk, impair.provider_unplugged(net, "router1"):
                assert [talk.ask() for _unused in range(5)] == ["192.168.122.66"] * 5


def test_existing_routers_are_told_apart_for_inbound_connections(existing_routers: Topology, backend: str) -> None:
    """What came in through a router goes back through it, also when multipath would choose the other one."""
    net = existing_routers
    with Engine(net, backend) as engine, EchoServer(net.router), AccessLogServer(net.router):
        engine.settle(
            mwan_links=[
                {**link, "weight": 0 if link["name"] == "router2" else 1} for link in net.variables["mwan_links"]
            ]
        )
        fetched = fetch_many(net.server, 60, ["5.5.5.5", "6.6.6.6"], sources=FRIENDS)
        assert fetched.failures == []
        with LongLivedTcp(net.server, "6.6.6.6", number=5, sources=FRIENDS) as flows:
            time.sleep(0.2)
            assert all(not flow.missing and not flow.error for flow in flows.stop())


def test_existing_routers_serve_a_lan_host_behind_dnat(existing_routers: Topology, backend: str) -> None:
    net = existing_routers
    with Engine(net, backend) as engine, EchoServer(net.client):
        engine.settle()
        port_forward(net, backend, 7, "192.168.101.1:7")
        for entrance in net.sources.values():
            with (
                LongLivedTcp(net.server, entrance, number=5) as tcp,
                LongLivedUdp(net.server, entrance, number=5) as udp,
            ):
                time.sleep(0.2)
                assert all(not flow.missing and not flow.error for flow in tcp.stop() + udp.stop())


def test_access_log_reads_as_in_the_draft(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server) as server:
        engine.settle()
        fetch_many(two_links.client, 60, path="/robots.txt")
        lines = server.log_lines()
    assert {line.split(" - - [")[0] for line in lines} == {"5.5.5.5", "6.6.6.6"}
    assert all('"GET /robots.txt HTTP/1.1" 404' in line for line in lines)
