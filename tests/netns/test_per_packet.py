# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Packets of one connection over several links of one provider: no address is changed, and none is left out."""

from __future__ import annotations

from lab import topology
from lab.balance import counted, counting, policy
from lab.engine import Engine
from lab.topology import Topology
from lab.traffic import EchoServer, LongLivedUdp, UdpFlood

SHARED = "20.0.1.77"


def share(net: Topology) -> None:
    """Give the client an address that its provider takes from either link, and leads back by the first."""
    net.client.ip(f"addr add {SHARED}/32 dev eth0")
    net.router.ip(f"route add {SHARED} dev lan0")
    provider = net.uplinks["link1"].provider
    provider.nft(f"add element inet lab {topology.customer_set('cust2')} {{ {SHARED} }}")
    provider.ip(f"route add {SHARED} via 20.0.1.2")


def test_packets_take_turns(backend: str) -> None:
    spread = [policy(("link1", 3), ("link2", 1), algorithm="per_packet")]
    with topology.many_links(2) as net, Engine(net, backend) as engine, EchoServer(net.server):
        share(net)
        engine.settle(mwan_classify="marks", mwan_policies=spread, mwan_snat=[])
        for device in ("wan1", "wan2"):
            counting(net.router, device, "postrouting", f"ip saddr {SHARED} oifname {device}")
        flood = UdpFlood(net.client, net.server, pps=2000, seconds=0.5, flows=1, source=SHARED).wait()
        assert (flood.lost <= flood.dropped_by_machine, flood.sources) == (True, [[SHARED]])
        assert (counted(net.router, "wan1"), counted(net.router, "wan2")) == (750, 250)
        # a reload does not stop it, nor one link that fails
        with LongLivedUdp(net.client, sources=[SHARED], number=4) as flows:
            engine.settle(mwan_rules=[{"name": "aside", "destination": "9.9.9.9", "link": "link2"}])
            net.router.run(["tee", "/run/mwan/health.json"], input='{"links": {"link1": {"state": "down"}}}')
            engine.settle()
            before = counted(net.router, "wan1")
            stopped = flows.stop()
        assert [(flow.missing, list(flow.sources)) for flow in stopped] == [([], [SHARED])] * 4
        assert counted(net.router, "wan1") <= before + 4, "what was under way"
        assert net.spoofed() == 0
