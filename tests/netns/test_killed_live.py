# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober is killed at the worst of times: forwarding goes on with what there is, and the next one finishes."""

from __future__ import annotations

import time
from typing import Any

from lab import impair
from lab.clients import Clients
from lab.engine import Engine
from lab.prober import Prober
from lab.seen import FLOWS, disturbed, sources
from lab.state import snapshot
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many
from lab.watched import BRISK

FAST: dict[str, Any] = {**BRISK, "profile": "fast", "flush_delay": 0}
A, B = "5.5.5.5", "6.6.6.6"
SOON = 3.0  # seconds
# seconds after a cable was pulled: about where it is led away, forgotten, reset, noted
MOMENTS = (0.01, 0.04)


def up(net: Topology) -> Prober:
    """A prober that has found all links up, and the router as they ask for."""
    prober = Prober(net.router)
    for link in net.uplinks:
        prober.wait_for(link, "up")
    prober.wait_settled()
    return prober


def test_killed_in_the_middle_of_a_pass(two_links: Topology, backend: str) -> None:
    net = two_links
    with Engine(net, backend) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.apply(mwan_probe=FAST)
        prober = up(net)
        with Clients(net.client, **FLOWS, want=A) as clients, Clients(net.client, **FLOWS, want=B) as neighbours:
            for moment in MOMENTS:
                clients.renew(A)
                with impair.inject(impair.cable_pulled, net, "isp_a") as cut:
                    time.sleep(moment)
                    prober.kill()
                    fetched = fetch_many(net.client, 30)
                    assert (dict(fetched.sources), fetched.failures) == ({B: 30}, [])
                    prober = Prober(net.router)
                    prober.wait_for("isp_a", "down")
                    prober.wait_settled()
                    assert engine.apply(check=True).actions == []
                    assert sources(clients.outages(cut.moment, A, SOON)) == {B}
                prober.stop()
                prober = up(net)
                assert engine.apply(check=True).actions == []
                assert set(fetch_many(net.client, 40).sources) == {A, B}
                assert disturbed(neighbours, cut.moment) == []
        prober.stop()


def test_killed_in_an_outage_it_leaves_everything_in_place(two_links: Topology) -> None:
    """Without it the router goes on for as long as nothing changes; the next one carries on where it was."""
    net = two_links
    with Engine(net) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.apply(mwan_probe=FAST)
        prober = up(net)
        with Clients(net.client, **FLOWS, want=A) as clients, Clients(net.client, **FLOWS, want=B) as neighbours:
            with impair.inject(impair.black_hole, net, "isp_a") as hole:
                prober.wait_for("isp_a", "down")
                prober.wait_settled()
                before = snapshot(net.router)
                prober.kill()
                time.sleep(0.5)
                assert snapshot(net.router) == before
                assert sources(clients.outages(hole.moment, A, SOON)) == {B}
                assert dict(fetch_many(net.client, 30).sources) == {B: 30}
            assert dict(fetch_many(net.client, 30).sources) == {B: 30}, "nobody is there to see that it is back"
            with Prober(net.router) as second:
                second.wait_for("isp_a", "up")
                second.wait_settled()
                assert set(fetch_many(net.client, 40).sources) == {A, B}
                assert second.changes("isp_a") == ["up", "suspect", "down", "up"]
            assert disturbed(neighbours, hole.moment) == []
