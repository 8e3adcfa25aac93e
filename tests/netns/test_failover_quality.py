# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links that answer, but badly: loss, delay and full buffers are no outage, and degrade a link where settings say."""

from __future__ import annotations

import time

from lab import impair, topology
from lab.clients import Clients
from lab.prober import Prober
from lab.seen import FLOWS, breaks, sources
from lab.topology import Topology
from lab.traffic import fetch_many, saturated
from lab.watched import happened, watched

A, B, C = "5.5.5.5", "6.6.6.6", "4.4.4.4"
# more probes than by default, so that the loss is known sooner
OFTEN = {"interval": 0.1, "dead": 2}
# seconds until enough probes have been sent for a verdict; and how long a degraded link must be fine after that
VERDICT, FORGIVEN = 20.0, 60.0


def lossy(net: Topology, prober: Prober, *links: str) -> None:
    """Loss on these links, none of which is out for it; all others are degraded already."""
    with impair.loss(net, links[0], 2), impair.loss(net, links[1], 2):
        time.sleep(2)
        assert {prober.states()[link] for link in links} == {"up"}
    # in each direction: far beyond the limit, or the verdict could wait for more probes than the window holds
    with impair.loss(net, links[0], 20), impair.loss(net, links[1], 20):
        for link in links:
            prober.wait_for(link, "degraded", VERDICT)
        prober.wait_settled()
        fetched = fetch_many(net.client, 60, timeout=10)
        assert set(fetched.sources) == set(net.sources.values()), "of links that are all bad all serve"
        assert fetched.answered > 55
    with impair.loss(net, links[0], 30), impair.loss(net, links[1], 30):
        time.sleep(3)
        assert fetch_many(net.client, 60, timeout=5).answered > 30
    assert not any(event.endswith("down") for event in happened(prober))


def test_bad_links_are_no_outage() -> None:
    """A step of latency on one link; while that is forgiven, loss on the others. Degraded ones get nothing new."""
    probe = {**OFTEN, "loss": 10, "rtt": {"enter": "150ms", "leave": "140ms"}, "degraded": "out"}
    with (
        topology.three_links() as net,
        watched(net, probe=probe) as prober,
        Clients(net.client, **FLOWS, want=A) as clients,
    ):
        with impair.inject(impair.delay, net, "isp_a", 150, 150) as step:
            prober.wait_for("isp_a", "degraded", VERDICT)
            prober.wait_settled()
            fetched = fetch_many(net.client, 60)
            assert (set(fetched.sources), fetched.failures) == ({B, C}, [])
            seen = clients.outages(step.moment, patience=5)
            assert (sources(seen), breaks(seen)) == ({A}, {}), "its connections stay"
            assert prober.status()["links"]["isp_a"]["reason"].startswith("round trip ")
        lossy(net, prober, "isp_b", "isp_c")
        prober.wait_for("isp_a", "up", FORGIVEN)
        assert [event for event in happened(prober) if "isp_a" in event] == ["isp_a up degraded", "isp_a degraded up"]


def test_late_answers_of_a_full_line_are_no_outage(two_links: Topology) -> None:
    """With a second of buffer. Nor is a line slow that is known to be full, now or a moment ago."""
    net = two_links
    net.variables["mwan_links"][0]["rate"] = "10mbit"
    with (
        watched(net, probe={**OFTEN, "rtt": "200ms"}) as prober,
        Clients(net.client, **FLOWS) as clients,
        impair.rate(net, "isp_a", kbit=10_000, latency_ms=1000),
        impair.rate(net, "isp_b", kbit=10_000, latency_ms=1000),
    ):
        began = time.monotonic()
        floods = [saturated(net, "isp_a", 10_000, 7, "down"), saturated(net, "isp_b", 10_000, 7, "up")]
        prober.wait_for("isp_b", "degraded", VERDICT)
        for flood in floods:
            flood.wait()
        time.sleep(3)
        assert happened(prober) == ["isp_b up degraded"]
        status = prober.status()["links"]["isp_a"]
        assert status["rtt"] > 0.2
        assert [flow.breaks for flow in clients.flows(began) if flow.breaks] == []
