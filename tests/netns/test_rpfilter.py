# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Reverse-path filtering with packets that really lie about their source, and prefixes that are never routed."""

from __future__ import annotations

import sys

import pytest
from lab import topology
from lab.balance import counted, counting
from lab.engine import Engine, RefusedError
from lab.topology import Topology
from lab.traffic import AccessLogServer, fetch_many

SPOOFED = "192.168.101.77"  # of the LAN, yet arriving from a provider
LIE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT: any source address
sock.bind((sys.argv[1], 0))
for _ in range(5):
    sock.sendto(b"lie", (sys.argv[2], 9))
"""
MODES = {"none": 0, "strict": 1, "loose": 2}


def lies_accepted(net: Topology, link: str, source: str = SPOOFED) -> int:
    """How many of five packets with a false source, sent by the provider of `link`, the router took in."""
    before = counted(net.router, "lies")
    net.uplinks[link].provider.run([sys.executable, "-I", "-S", "-c", LIE, source, net.uplinks[link].address])
    net.uplinks[link].provider.run(["ping", "-c1", "-W1", net.uplinks[link].address], check=False)
    return counted(net.router, "lies") - before


def effective(net: Topology, device: str) -> int:
    """ip-sysctl.rst: the higher of all and the device's own."""
    return max(int(net.router.sysctl(f"net.ipv4.conf.{name}.rp_filter")) for name in ("all", device))


def test_modes_per_device(two_links: Topology) -> None:
    net = two_links
    counting(net.router, "lies", "input", "udp dport 9")
    with Engine(net) as engine:
        for on_a, on_b in (("strict", "none"), ("none", "strict"), ("loose", "strict"), ("strict", "loose")):
            engine.settle(mwan_rp_filter={"mode": "loose", "devices": {"wan1": on_a, "wan2": on_b, "lan0": "strict"}})
            for link, device, mode in (("isp_a", "wan1", on_a), ("isp_b", "wan2", on_b)):
                assert effective(net, device) == MODES[mode]
                assert lies_accepted(net, link) == (0 if mode == "strict" else 5), (device, mode)
            assert effective(net, "lan0") == 1


def test_loose_refuses_what_no_route_leads_to(two_links: Topology) -> None:
    net = two_links
    counting(net.router, "lies", "input", "udp dport 9")
    with Engine(net) as engine:
        engine.settle(mwan_rp_filter={"mode": "loose"}, mwan_blackhole=["10.99.0.0/16"])
        assert lies_accepted(net, "isp_a", "10.99.1.1") == 0
        assert lies_accepted(net, "isp_a", "10.98.1.1") == 5
        engine.settle(mwan_rp_filter={"mode": "none"})
        assert lies_accepted(net, "isp_a") == 5


@pytest.mark.parametrize("build", [topology.two_links, topology.shared_segment], ids=["two_links", "shared_segment"])
def test_strict_on_all_devices_lets_pinned_connections_work(backend: str, build: type[Topology]) -> None:
    """With src_valid_mark an answer is looked up in the table of the link it was pinned to."""
    with build() as net, Engine(net, backend) as engine, AccessLogServer(net.server), AccessLogServer(net.router, 81):
        engine.settle(mwan_rp_filter={"mode": "strict"})
        fetched = fetch_many(net.client, 100)
        assert (set(fetched.sources), fetched.failures) == (set(net.sources.values()), [])
        assert fetch_many(net.router, 40).failures == []
        inbound = fetch_many(net.server, 40, list(net.sources.values()), sources=["7.7.7.71"], port=81)
        assert inbound.failures == []


def test_black_holes_swallow(two_links: Topology, backend: str) -> None:
    net = two_links
    net.server.ip("route add local 10.99.0.0/16 dev lo")
    with Engine(net, backend) as engine, AccessLogServer(net.server):
        engine.settle()
        assert fetch_many(net.client, 5, "10.99.1.1").failures == []
        engine.settle(mwan_blackhole=["10.99.0.0/16"])
        for provider in net.providers.values():
            counting(provider, "escaped", "prerouting", "ip daddr 10.99.0.0/16")
        assert fetch_many(net.client, 5, "10.99.1.1", timeout=0.5).answered == 0
        assert [counted(provider, "escaped") for provider in net.providers.values()] == [0, 0]
        engine.settle(mwan_blackhole=[])
        assert fetch_many(net.client, 5, "10.99.1.1").failures == []


def test_persisted_and_given_back(two_links: Topology) -> None:
    net = two_links
    net.router.sysctl("net.ipv4.conf.wan2.rp_filter", 1)
    with Engine(net) as engine:
        engine.settle(mwan_rp_filter={"mode": "loose", "default": "strict", "devices": {"lan0": "strict"}})
        lines = net.router.run("cat /etc/sysctl.d/90-mwan.conf").stdout.splitlines()
        assert {
            "net/ipv4/conf/all/rp_filter = 0",
            "net/ipv4/conf/default/rp_filter = 1",
            "net/ipv4/conf/lan0/rp_filter = 1",
            "net/ipv4/conf/*/rp_filter = 2",
            "net/ipv4/conf/all/src_valid_mark = 1",
            "net/ipv4/fib_multipath_hash_policy = 1",
        } <= set(lines)
        assert not any("ip_forward" in line for line in lines), "forwarding waits for source NAT"
        net.router.ip("link add veth8 type veth peer veth9")
        assert net.router.sysctl("net.ipv4.conf.veth8.rp_filter") == "1", "a device that comes later has the default"
        engine.settle(mwan_rp_filter={})
        assert [effective(net, device) for device in ("wan1", "wan2", "lan0")] == [0, 1, 0]


def test_what_cannot_take_effect_is_refused(two_links: Topology) -> None:
    with Engine(two_links) as engine:
        engine.settle()
        with pytest.raises(RefusedError, match=r"devices\.wan1.*none.*cannot take effect.*the higher of all"):
            engine.apply(mwan_rp_filter={"all": "strict", "devices": {"wan1": "none"}})
        assert effective(two_links, "wan1") == 2
