# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober's word on a link is an overlay: runs respect it, and never count it as drift."""

from __future__ import annotations

import json

import pytest
from lab.balance import about, policy
from lab.engine import Engine
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many

BUILDERS = ["two_links", "shared_segment"]


def report(net: Topology, **states: str) -> None:
    """Write health.json as the prober does."""
    links = {name: {"state": state} for name, state in states.items()}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": links}))


def drain(net: Topology, link: str) -> None:
    """Write drained.json as `mwanctl drain` does."""
    net.router.run("mkdir -p /var/lib/mwan")
    net.router.run(["tee", "/var/lib/mwan/drained.json"], input=json.dumps({"links": {link: {"why": "new fibre"}}}))


@pytest.mark.parametrize("state", ["down", "drained", "suspect"])
@pytest.mark.parametrize("name", BUILDERS)
def test_no_new_connection_on_a_resting_link(
    request: pytest.FixtureRequest, backend: str, name: str, state: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    (resting, source), (_unused, other) = net.sources.items()
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle()
        with Talk(net.client, want=source) as pinned:
            report(net, **{resting: state})
            engine.settle()
            fetched = fetch_many(net.client, 60)
            assert (dict(fetched.sources), fetched.failures) == ({other: 60}, [])
            assert dict(fetch_many(net.router, 20).sources) == {other: 20}
            assert pinned.ask() == source, "a pinned connection stays"
            assert engine.apply(check=True).actions == []
            report(net, **{resting: "up"})
            engine.settle()
            assert set(fetch_many(net.client, 60).sources) == {source, other}
            assert pinned.ask() == source
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_suspect_links_serve_while_there_is_nothing_better(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    first, second = net.sources
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        report(net, **{first: "suspect", second: "suspect"})
        engine.settle()
        fetched = fetch_many(net.client, 60)
        assert (set(fetched.sources), fetched.failures) == (set(net.sources.values()), [])
        fetched = fetch_many(net.router, 60)
        assert (set(fetched.sources), fetched.failures) == (set(net.sources.values()), [])
        report(net, **{first: "suspect", second: "down"})
        engine.settle()
        for host in (net.client, net.router):
            fetched = fetch_many(host, 30)
            assert (dict(fetched.sources), fetched.failures) == ({net.sources[first]: 30}, [])
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_degraded_link_is_kept_has_half_its_weight_or_is_out(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    (poor, source), (fine, other) = net.sources.items()
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle(mwan_policies=[policy((poor, 3), (fine, 1))])
        with Talk(net.client, want=source) as pinned:
            report(net, **{poor: "degraded"})
            for what, weights in (("keep", (3, 1)), ("reweight", (3, 2)), ("out", (0, 1))):
                engine.settle(mwan_probe={"degraded": what})
                fetched = fetch_many(net.client, 200)
                assert fetched.failures == []
                assert about(fetched.sources, {source: weights[0], other: weights[1]}), (what, fetched.sources)
                assert pinned.ask() == source, "a pinned connection stays"
            report(net, **{poor: "degraded", fine: "suspect"})
            engine.settle()
            assert dict(fetch_many(net.client, 30).sources) == {source: 30}, "poor is better than suspect"
        assert net.spoofed() == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_draining_keeps_flows_and_outlives_runs_and_the_prober(
    request: pytest.FixtureRequest, backend: str, name: str
) -> None:
    net: Topology = request.getfixturevalue(name)
    (drained, source), (_unused, other) = net.sources.items()
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle()
        with Talk(net.client, want=source) as tcp, Talk(net.client, want=source, protocol="udp") as udp:
            drain(net, drained)
            engine.settle()
            report(net, **{drained: "up"})
            assert engine.apply().actions == [], "the prober's word does not undo the operator's"
            net.router.run("rm -r /run/mwan")
            engine.settle()
            for host in (net.client, net.router):
                assert dict(fetch_many(host, 30).sources) == {other: 30}
            assert (tcp.ask(), udp.ask()) == (source, source), "what is pinned stays"
            net.router.run("rm /var/lib/mwan/drained.json")
            engine.settle()
            assert set(fetch_many(net.client, 60).sources) == {source, other}
            assert (tcp.ask(), udp.ask()) == (source, source)
        assert net.spoofed() == 0


def test_drained_link_is_not_used_for_want_of_another(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        drain(net, "isp_a")
        report(net, isp_b="down")
        engine.settle()
        assert fetch_many(net.client, 5).answered == 0
        report(net, isp_b="suspect")
        engine.settle()
        assert dict(fetch_many(net.client, 20).sources) == {"6.6.6.6": 20}


def test_inbound_connections_still_enter_by_a_resting_link(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, AccessLogServer(net.router):
        engine.settle()
        drain(net, "isp_a")
        engine.settle()
        assert fetch_many(net.server, 20, ["5.5.5.5", "6.6.6.6"], sources=["7.7.7.71"]).failures == []


def test_tiers_follow_health(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle(mwan_policies=[policy(("isp_a", 1, 1), ("isp_b", 1, 2))])
        assert dict(fetch_many(net.client, 20).sources) == {"5.5.5.5": 20}
        report(net, isp_a="down")
        engine.settle()
        assert dict(fetch_many(net.client, 20).sources) == {"6.6.6.6": 20}
        report(net, isp_a="down", isp_b="down")
        engine.settle()
        assert fetch_many(net.client, 5).answered == 0
        report(net, isp_a="degraded", isp_b="down")
        engine.settle()
        assert dict(fetch_many(net.client, 20).sources) == {"5.5.5.5": 20}


@pytest.mark.parametrize("content", ["", "{", '{"links": {"isp_a": 5, "nobody": {"state": "down"}}}', '{"links": []}'])
def test_health_that_says_nothing_is_no_outage(two_links: Topology, content: str) -> None:
    with Engine(two_links) as engine:
        engine.settle()
        two_links.router.run(["tee", "/run/mwan/health.json"], input=content)
        assert engine.apply().actions == []


def test_declarations_can_change_during_an_outage(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        report(net, isp_a="down")
        engine.settle()
        engine.settle(mwan_policies=[policy(("isp_a", 7), ("isp_b", 1))])
        assert dict(fetch_many(net.client, 30).sources) == {"6.6.6.6": 30}
        net.router.run("rm /run/mwan/health.json")
        engine.settle()
        assert "weight 7" in net.router.ip("route show table mwan_balanced")
