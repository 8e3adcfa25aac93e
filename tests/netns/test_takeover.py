# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A router that is in use is taken over, in whole or in part, and given back, without breaking what runs over it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from lab.balance import policy, port_forward
from lab.engine import Engine
from lab.host import Host
from lab.talk import Talk
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer, fetch_many

FRIEND = "7.7.7.71"

# Argument: number of TCP connections. Says when it listens and when it has accepted them all; told to, it greets.
GREETER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 82))
print("listening", flush=True)
accepted = [listener.accept()[0] for number in range(int(sys.argv[1]))]
print("accepted", flush=True)
sys.stdin.readline()
for sock in accepted:
    sock.send(b"hello")
sys.stdin.readline()
"""

# Arguments: number of TCP connections, destination. Prints what each heard.
HEARER = """
import socket, sys
socks = [socket.create_connection((sys.argv[2], 8080), timeout=1) for number in range(int(sys.argv[1]))]
for sock in socks:
    try:
        print(sock.recv(64).decode())
    except OSError as error:
        print(type(error).__name__)
"""


@contextmanager
def talks(client: Host, tcp: int, udp: int, want: str = "") -> Iterator[list[Talk]]:
    """Connections that have spoken once and are silent until they are asked again."""
    protocols = ["tcp"] * tcp + ["udp"] * udp
    with ExitStack() as stack:
        yield [stack.enter_context(Talk(client, protocol=name, want=want, timeout=0.5)) for name in protocols]


@pytest.mark.parametrize("translation", ["masquerade", "snat to 5.5.5.5", "snat to 5.5.5.7"])
def test_idle_connections_of_before_stay_on_their_link(two_links: Topology, backend: str, translation: str) -> None:
    """Their first packet after the takeover comes from the LAN, and the translation of others is all that tells."""
    net, address = two_links, "5.5.5.7" if "5.5.5.7" in translation else "5.5.5.5"
    net.router.sysctl("net.ipv4.ip_forward", 1)
    net.router.ip("addr add 5.5.5.7/24 dev wan1")
    net.router.ip("route add default via 5.5.5.1 dev wan1")
    hook = "type nat hook postrouting priority 100"
    net.router.nft(f'table ip old {{ chain out {{ {hook}; oifname "wan*" {translation}; }}; }}')
    with EchoServer(net.server), talks(net.client, tcp=8, udp=4) as idle, Engine(net, backend) as engine:
        engine.settle()
        assert [talk.ask() for talk in idle] == [address] * 12
        assert net.spoofed() == 0
        engine.settle(mwan_policies=[policy("isp_b")])
        assert [talk.ask() for talk in idle] == [address] * 12
        assert net.spoofed() == 0


def test_forwarded_port_of_before_may_speak_first(two_links: Topology, backend: str) -> None:
    """Of a silent connection from outside to a LAN host, the first packet after the takeover is the LAN host's."""
    net, number = two_links, 12
    net.router.sysctl("net.ipv4.ip_forward", 1)
    net.router.ip("route add default via 5.5.5.1 dev wan1")
    port_forward(net, "nftables", 8080, "192.168.101.1:82")
    greeter = net.client.popen([sys.executable, "-I", "-c", GREETER, str(number)], stdin=subprocess.PIPE)
    assert greeter.stdin is not None
    assert greeter.stdout is not None
    assert greeter.stdout.readline() == "listening\n"
    hearer = net.server.popen([sys.executable, "-I", "-c", HEARER, str(number), "5.5.5.5"])
    assert greeter.stdout.readline() == "accepted\n"
    with Engine(net, backend) as engine:
        engine.settle()
        greeter.stdin.write("now\n")
        greeter.stdin.flush()
        assert hearer.communicate(timeout=30)[0].split() == ["hello"] * number
        assert net.spoofed() == 0


def test_uplink_that_is_no_link_of_ours_goes_on_answering(two_links: Topology, backend: str) -> None:
    """The router's connections over an uplink that nobody declared are answered by the main table, old and new."""
    net = two_links
    net.router.ip("route add default via 5.5.5.1 dev wan1")
    with (
        Engine(net, backend) as engine,
        EchoServer(net.router),
        Talk(net.server, "5.5.5.5", source=FRIEND, timeout=0.5) as old,
    ):
        outcome = engine.settle(
            mwan_links=net.variables["mwan_links"][1:],
            mwan_snat=net.variables["mwan_snat"][1:],
            mwan_policies=[policy("isp_b")],
        )
        assert old.ask() == FRIEND
        for protocol in ("tcp", "udp"):
            with Talk(net.server, "5.5.5.5", source=FRIEND, protocol=protocol, timeout=0.5) as new:
                assert new.ask() == FRIEND
        assert net.spoofed() == 0
        assert any("wan1" in warning for warning in outcome.warnings)
        with AccessLogServer(net.server):
            assert dict(fetch_many(net.client, 20).sources) == {"6.6.6.6": 20}


def test_uplink_that_becomes_a_link_is_no_uplink_of_others_any_more(two_links: Topology, backend: str) -> None:
    net = two_links
    net.router.ip("route add default via 5.5.5.1 dev wan1")
    only_b = {"mwan_links": net.variables["mwan_links"][1:], "mwan_snat": [], "mwan_policies": [policy("isp_b")]}
    with Engine(net, backend) as engine, EchoServer(net.router):
        engine.settle(**only_b)
        assert "5.5.5.5 lookup main" in net.router.ip("rule show")
        with Talk(net.server, "5.5.5.5", source=FRIEND, timeout=0.5) as old:
            outcome = engine.settle(**net.variables)
            assert outcome.warnings == []
            assert "5.5.5.5 lookup main" not in net.router.ip("rule show")
            assert old.ask() == FRIEND
        engine.settle(**only_b)
        engine.remove_all()
        assert "lookup main" not in net.router.ip("rule show proto mwan", check=False)
        assert net.spoofed() == 0


def test_pins_of_an_earlier_configuration_do_not_lead_to_another_link(two_links: Topology, backend: str) -> None:
    """All is removed and declared anew in another order, so that a link gets the number another one had."""
    net = two_links
    with Engine(net, backend) as engine, EchoServer(net.server):
        engine.settle()
        with talks(net.client, tcp=3, udp=3, want="5.5.5.5") as old:
            engine.remove_all()
            engine.settle(**{**net.variables, "mwan_links": net.variables["mwan_links"][::-1]})
            answers = [talk.ask() for talk in old]
            assert net.spoofed() == 0
            assert set(answers[:3]) <= {"5.5.5.5", "ECONNRESET"}
            assert set(answers[3:]) <= {"5.5.5.5", "6.6.6.6"}
