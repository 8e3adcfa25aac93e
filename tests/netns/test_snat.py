# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Source NAT: for the sources named, on the links named, to what was asked; as the server and the providers see it."""

from __future__ import annotations

import pytest
from lab import topology
from lab.balance import policy
from lab.engine import Engine
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many


def only_a(to: str, source: str | list[str] | None = None) -> list[dict[str, object]]:
    return [{"link": "isp_a", "to": to, **({} if source is None else {"source": source})}]


@pytest.mark.parametrize("to", ["5.5.5.5", "auto", "masquerade"])
@pytest.mark.parametrize("source", [None, "192.168.101.0/24", ["10.0.0.0/8", "192.168.101.1"]])
def test_listed_sources_are_translated(two_links: Topology, backend: str, to: str, source: str | list[str]) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server):
        engine.settle(mwan_policies=[policy("isp_a")], mwan_snat=only_a(to, source))
        assert dict(fetch_many(two_links.client, 20).sources) == {"5.5.5.5": 20}
        assert two_links.spoofed() == 0


def test_sources_not_listed_keep_theirs(backend: str) -> None:
    """The provider's anti-spoofing sees the private address of the client that is not listed."""
    with topology.two_links(clients=2) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=[policy("isp_a")], mwan_snat=only_a("auto", "192.168.101.1"))
        assert dict(fetch_many(net.client, 10, sources=["192.168.101.1"]).sources) == {"5.5.5.5": 10}
        assert net.spoofed() == 0
        assert fetch_many(net.client, 3, sources=["192.168.101.2"], timeout=0.5).answered == 0
        assert net.spoofed() >= 3


def test_links_not_listed_translate_nothing(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.server):
        engine.settle(mwan_policies=[policy("isp_b")], mwan_snat=only_a("auto"))
        assert fetch_many(two_links.client, 3, timeout=0.5).answered == 0
        assert two_links.spoofed() >= 3


def test_second_address_of_a_link(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.ip("addr add 5.5.5.55/24 dev wan1")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        snat = [
            {"link": "isp_a", "source": "192.168.101.0/24", "to": "5.5.5.55"},
            {"link": "isp_b", "source": "192.168.101.0/24", "to": "6.6.6.6"},
        ]
        engine.settle(mwan_snat=snat)
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == ({"5.5.5.55", "6.6.6.6"}, [])


def test_auto_follows_the_address(two_links: Topology, backend: str) -> None:
    net = two_links
    links = [{key: value for key, value in link.items() if key != "address"} for link in net.variables["mwan_links"]]
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_links=links, mwan_policies=[policy("isp_a")], mwan_snat=only_a("auto"))
        net.router.ip("addr add 5.5.5.9/24 dev wan1")
        net.router.ip("addr del 5.5.5.5/24 dev wan1")
        net.router.ip("addr add 5.5.5.9/24 dev wan1", check=False)
        assert engine.settle().links["isp_a"]["address"] == "5.5.5.9"
        assert dict(fetch_many(net.client, 20).sources) == {"5.5.5.9": 20}


def test_first_matching_entry_of_a_link_decides(backend: str) -> None:
    with topology.two_links(clients=2) as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        net.router.ip("addr add 5.5.5.55/24 dev wan1")
        snat = [
            {"link": "isp_a", "source": "192.168.101.2", "to": "5.5.5.55"},
            {"link": "isp_a", "source": "192.168.101.0/24", "to": "auto"},
        ]
        engine.settle(mwan_policies=[policy("isp_a")], mwan_snat=snat)
        assert dict(fetch_many(net.client, 10, sources=["192.168.101.2"]).sources) == {"5.5.5.55": 10}
        assert dict(fetch_many(net.client, 10, sources=["192.168.101.1"]).sources) == {"5.5.5.5": 10}


def test_traffic_between_local_networks_is_left_alone(two_links: Topology, backend: str) -> None:
    with Engine(two_links, backend) as engine, AccessLogServer(two_links.router, 81):
        engine.settle(mwan_snat=only_a("auto"))
        assert dict(fetch_many(two_links.client, 5, "192.168.101.254", port=81).sources) == {"192.168.101.1": 5}
        assert dict(fetch_many(two_links.client, 5, "5.5.5.5", port=81).sources) == {"192.168.101.1": 5}
