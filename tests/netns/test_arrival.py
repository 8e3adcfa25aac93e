# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What arrives over a link is answered over it: errors, secondary addresses, one device for LAN and link, IPv6."""

from __future__ import annotations

import sys

from lab.balance import counted, counting
from lab.engine import Engine
from lab.talk import Talk
from lab.topology import PUBLIC_DEVICE, Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many

# Hosts of the Internet which reach the routed prefix over one link only. There are several, as multipath would choose
# the right link for some of them.
FRIENDS = {link: [f"7.7.7.{net}{n}" for n in range(1, 6)] for link, net in (("isp_a", 7), ("isp_b", 8))}
ROUTED, ROUTER, HOST = "198.51.100.0/24", "198.51.100.254", "198.51.100.10"

# Arguments: destination, sources. Prints for each source who answered datagrams of TTL 2 and 3, or `-`. The error queue
# (ip(7), IP_RECVERR) holds a struct sock_extended_err, 16 bytes, and then the address of who sent the error.
HOPS = """
import select, socket, sys

def hop(source, ttl):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    sock.bind((source, 0))
    sock.sendto(b"?", (sys.argv[1], 33434))
    poll = select.poll()
    poll.register(sock, 0)
    if not poll.poll(2000):
        return "-"
    ((_level, _kind, data),) = sock.recvmsg(64, 256, socket.MSG_ERRQUEUE)[1]
    return socket.inet_ntoa(data[20:24])

for source in sys.argv[2:]:
    print(hop(source, 2), hop(source, 3))
"""

# Arguments: destination. Nobody listens: what comes back is an error.
DATAGRAM6 = """
import socket, sys
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"?", (sys.argv[1], 33434))
"""


def route_a_prefix(net: Topology) -> None:
    """Both providers route a prefix of the LAN to the router; the server reaches it over each as one of its friends."""
    net.router.ip(f"addr add {ROUTER}/24 dev lan0")
    net.client.ip(f"addr add {HOST}/24 dev eth0")
    for number, (name, uplink) in enumerate(net.uplinks.items(), 101):
        near = uplink.provider.ip_json(f"addr show dev {PUBLIC_DEVICE}")[0]["addr_info"][0]["local"]
        uplink.provider.ip(f"route add {ROUTED} via {uplink.address}")
        uplink.provider.nft(f"insert rule inet lab customers ip saddr {ROUTED} accept")
        for friend in FRIENDS[name]:
            net.server.ip(f"rule add from {friend} to {ROUTED} lookup {number}")
        net.server.ip(f"route add {ROUTED} via {near} table {number}")


def test_errors_of_the_router_leave_by_the_link_of_what_they_answer(two_links: Topology, backend: str) -> None:
    """A traceroute from outside to a LAN host whose addresses are public shows the router, with the link's address."""
    net = two_links
    route_a_prefix(net)
    with Engine(net, backend) as engine:
        engine.settle()
        for name, uplink in net.uplinks.items():
            answers = net.server.run([sys.executable, "-I", "-c", HOPS, HOST, *FRIENDS[name]]).stdout.splitlines()
            assert answers == [f"{uplink.address} {HOST}"] * len(FRIENDS[name])
        assert net.spoofed() == 0


def test_lan_behind_the_device_of_a_link(two_links: Topology, backend: str) -> None:
    """Hosts beside the gateway follow the policy; what comes from beyond it is answered through it."""
    net = two_links
    dsl = {"name": "dsl", "device": "lan0", "gateway": "192.168.101.200", "weight": 0}
    with Engine(net, backend) as engine, AccessLogServer(net.server), AccessLogServer(net.router, 81):
        engine.settle(mwan_links=[*net.variables["mwan_links"], dsl])
        fetched = fetch_many(net.client, 20, timeout=1.0)
        assert fetched.failures == []
        assert set(fetched.sources) <= set(net.sources.values())
        net.client.ip("addr add 192.168.101.200/24 dev eth0")
        net.client.ip("addr add 203.0.113.9/32 dev lo")
        beyond = fetch_many(net.client, 20, "192.168.101.254", sources=["203.0.113.9"], port=81, timeout=1.0)
        assert beyond.failures == []
        assert net.spoofed() == 0


def test_secondary_address_answers_without_a_policy(two_links: Topology, backend: str) -> None:
    """With links alone, and no default route, every address of a link's device is answered over the link."""
    net = two_links
    net.router.ip("addr add 5.5.5.7/24 dev wan1")
    net.router.ip("addr add 6.6.6.8/32 dev wan2")
    with Engine(net, backend) as engine, EchoServer(net.router):
        engine.settle(mwan_policies=[], mwan_default_policy="", mwan_snat=[])
        for address in ("5.5.5.5", "5.5.5.7", "6.6.6.6", "6.6.6.8"):
            for protocol in ("tcp", "udp"):
                with Talk(net.server, address, source="7.7.7.71", protocol=protocol, timeout=0.5) as talk:
                    assert talk.ask() == "7.7.7.71", (address, protocol)
        assert net.spoofed() == 0


def test_ipv6_is_left_alone(two_links: Topology, backend: str) -> None:
    net, provider = two_links, two_links.uplinks["isp_a"].provider
    for host, device, address in ((net.router, "wan1", "fd00::5"), (provider, "cust", "fd00::1")):
        host.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", 0)
        host.ip(f"addr add {address}/64 dev {device} nodad")
    for hook in ("input", "postrouting"):
        counting(net.router, f"all_{hook}", hook, "ip6 nexthdr udp", priority=150)
        counting(net.router, f"pinned_{hook}", hook, "ip6 nexthdr udp ct mark != 0", priority=150)
        counting(net.router, f"marked_{hook}", hook, "ip6 nexthdr udp meta mark != 0", priority=150)
    with Engine(net, backend) as engine:
        engine.settle()
        for host, to in ((net.router, "fd00::1"), (provider, "fd00::5")):
            host.run([sys.executable, "-I", "-c", DATAGRAM6, to])
    found = {
        name: [counted(net.router, f"{name}_{hook}") for hook in ("input", "postrouting")]
        for name in ("all", "pinned", "marked")
    }
    assert found == {"all": [1, 1], "pinned": [0, 0], "marked": [0, 0]}
