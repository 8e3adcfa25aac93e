# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Rules: which new connections go where; the first that matches decides."""

from __future__ import annotations

from typing import Any

import pytest
from lab import topology
from lab.balance import about, policy
from lab.engine import Engine
from lab.talk import Talk
from lab.traffic import AccessLogServer, EchoServer, fetch_many

POLICIES = [policy("isp_a", "isp_b"), policy("isp_a", name="only_a"), policy("isp_b", name="only_b")]
A, B = "5.5.5.5", "6.6.6.6"


def rule(**match: Any) -> dict[str, Any]:
    return {"name": f"rule_{abs(hash(str(match))) % 10**6}", **match}


def test_each_match_chooses(backend: str) -> None:
    with topology.two_links(clients=3) as net, Engine(net, backend) as engine:
        with AccessLogServer(net.server), AccessLogServer(net.server, 8081):
            engine.settle(
                mwan_policies=POLICIES,
                mwan_rules=[
                    rule(source="192.168.101.2", link="isp_b"),
                    rule(destination="7.7.7.32/28", policy="only_a"),
                    rule(protocol="tcp", destination_port="8080-8089", policy="only_b"),
                    rule(device="lo", protocol="tcp", source_port="30500-30999", link="isp_b"),
                    rule(device="lo", policy="only_a"),
                ],
            )

            def sources(number: int = 20, host: str = "client", **more: Any) -> dict[str, int]:
                fetched = fetch_many(net.lab.hosts[host], number, more.pop("to", "7.7.7.7"), **more)
                assert fetched.failures == []
                return dict(fetched.sources)

            assert sources(sources=["192.168.101.2"]) == {B: 20}
            assert sources(sources=["192.168.101.2"], to="7.7.7.33") == {B: 20}, "the first that matches decides"
            assert sources(sources=["192.168.101.3"], to="7.7.7.33") == {A: 20}
            assert sources(sources=["192.168.101.3"], port=8081) == {B: 20}
            assert sources(sources=["192.168.101.3"], to="7.7.7.40", port=8081) == {A: 20}
            assert about(sources(200, sources=["192.168.101.1"]), {A: 1, B: 1})
            assert sources(host="router") == {A: 20}
            net.router._next_port = 30500
            assert sources(host="router") == {B: 20}
        assert net.spoofed() == 0


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_protocol_tells_connections_apart(backend: str, protocol: str) -> None:
    with topology.two_links() as net, Engine(net, backend) as engine, EchoServer(net.server):
        other = {"tcp": "udp", "udp": "tcp"}[protocol]
        engine.settle(mwan_rules=[rule(protocol=protocol, link="isp_a"), rule(protocol=other, link="isp_b")])
        for _unused in range(5):
            with Talk(net.client, protocol=protocol) as one, Talk(net.client, protocol=other) as another:
                assert (one.ask(), another.ask()) == (A, B)


def test_rule_by_arrival_device(backend: str) -> None:
    with topology.two_links() as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_rules=[rule(device="lan0", link="isp_b"), rule(device="lo", link="isp_a")])
        assert dict(fetch_many(net.client, 20).sources) == {B: 20}
        assert dict(fetch_many(net.router, 20).sources) == {A: 20}


def test_rule_change_moves_new_connections_only(backend: str) -> None:
    with (
        topology.two_links() as net,
        Engine(net, backend) as engine,
        EchoServer(net.server),
        AccessLogServer(net.server),
    ):
        engine.settle(mwan_rules=[rule(source="192.168.101.0/24", link="isp_a")])
        with Talk(net.client) as old:
            assert old.ask() == A
            engine.settle(mwan_rules=[rule(source="192.168.101.0/24", link="isp_b")])
            assert dict(fetch_many(net.client, 20).sources) == {B: 20}
            assert old.ask() == A


def test_order_of_rules_can_be_turned_round(backend: str) -> None:
    with topology.two_links() as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        rules = [rule(destination="7.7.7.7", link="isp_a"), rule(source="192.168.101.1", link="isp_b")]
        engine.settle(mwan_rules=rules)
        assert dict(fetch_many(net.client, 10).sources) == {A: 10}
        engine.settle(mwan_rules=rules[::-1])
        assert dict(fetch_many(net.client, 10).sources) == {B: 10}
        engine.settle(mwan_rules=rules)
        assert dict(fetch_many(net.client, 10).sources) == {A: 10}


def test_default_policy_can_change_and_go(backend: str) -> None:
    with topology.two_links() as net, Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=POLICIES, mwan_default_policy="only_b")
        assert dict(fetch_many(net.client, 10).sources) == {B: 10}
        engine.settle(mwan_default_policy="only_a")
        assert dict(fetch_many(net.client, 10).sources) == {A: 10}
        engine.settle(mwan_default_policy="", mwan_rules=[rule(destination="7.7.7.9", policy="only_b")])
        assert dict(fetch_many(net.client, 10, "7.7.7.9").sources) == {B: 10}
        assert fetch_many(net.client, 2, timeout=0.5).answered == 0
