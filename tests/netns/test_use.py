# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""`mwanctl use`: every socket of a command leaves by one link, and nothing of it is left."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator

import pytest
from _mwan import cgroup
from lab.console import command, ctl, told
from lab.engine import Engine
from lab.host import Host
from lab.topology import Topology
from lab.traffic import AccessLogServer, EchoServer

B = "6.6.6.6"
UDP = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(2)
    sock.sendto(b"1", ("7.7.7.7", 7))
    print(sock.recv(99).decode().split()[1])
"""
TCP = """
import urllib.request
print(urllib.request.urlopen("http://7.7.7.7/", timeout=2).read().decode())
"""
# every source of an echo request that arrives, remembered
PINGED = """
table inet seen {
  set pinged { type ipv4_addr; flags dynamic; size 100; }
  chain arriving {
    type filter hook input priority 0
    icmp type echo-request add @pinged { ip saddr }
  }
}
"""


def report_down(net: Topology, link: str) -> None:
    """As the prober does; the connections that the link has are given up."""
    links = {link: {"state": "down", "reason": "as written", "released": "down"}}
    net.router.run(["tee", "/run/mwan/health.json"], input=json.dumps({"links": links}))


@pytest.fixture
def managed(two_links: Topology) -> Iterator[Topology]:
    """A router in service."""
    with Engine(two_links) as engine:
        engine.apply()
        yield two_links


def groups_left() -> list[str]:
    """Control groups of `use`, below that of this process, where the commands run by the lab begin."""
    parent = cgroup._own_group()
    found = [name for name in os.listdir(parent) if name.startswith(cgroup.PREFIX)]
    os.close(parent)
    return found


@pytest.mark.parametrize("name", ["two_links", "shared_segment", "point_to_point"])
def test_every_socket_of_a_command_leaves_by_the_link(request: pytest.FixtureRequest, backend: str, name: str) -> None:
    """Also of a link that is drained or down, and whatever policies and rules say."""
    net: Topology = request.getfixturevalue(name)
    names = list(net.sources)
    with Engine(net, backend) as engine, AccessLogServer(net.server), EchoServer(net.server):
        engine.settle(mwan_rules=[{"name": "all", "source": "0.0.0.0/0", "link": names[1]}])
        report_down(net, names[0])
        engine.settle()
        net.server.nft(PINGED)
        for link, source in net.sources.items():
            for script in (TCP, UDP):
                assert ctl(net.router, "use", link, "--", sys.executable, "-c", script).strip() == source
            net.server.run("nft flush set inet seen pinged")
            ctl(net.router, "use", link, "--", "ping", "-c1", "-W2", "7.7.7.7")
            assert pinged(net.server) == [source]
        assert net.spoofed() == 0
    assert groups_left() == []


def pinged(server: Host) -> list[str]:
    listing = json.loads(server.run("nft -j list set inet seen pinged").stdout)
    return [address for item in listing["nftables"] for address in item.get("set", {}).get("elem", [])]


def test_connections_of_a_command_are_pinned_to_the_link(managed: Topology) -> None:
    def pins() -> dict[str, int]:
        return {name: link["connections"] for name, link in told(managed.router, "status")["links"].items()}

    with AccessLogServer(managed.server):
        before = pins()
        for _unused in range(3):
            ctl(managed.router, "use", "isp_b", "--", sys.executable, "-c", TCP)
        assert pins() == {**before, "isp_b": before["isp_b"] + 3}


def test_the_innermost_use_decides(managed: Topology) -> None:
    with AccessLogServer(managed.server):
        inner = command("use", "isp_b", "--", sys.executable, "-c", TCP)
        assert ctl(managed.router, "use", "isp_a", "--", *inner).strip() == B
    assert groups_left() == []


def test_the_exit_code_is_the_commands(managed: Topology) -> None:
    commands = {"true": 0, "sh -c exit\\ 7": 7, "sh -c kill\\ -9\\ $$": 137, "no-such-program": 127, "/etc/passwd": 126}
    for words, code in commands.items():
        ctl(managed.router, "use", "isp_a", "--", *shlex.split(words), code=code)
    assert groups_left() == []


def test_signals_reach_the_command(managed: Topology) -> None:
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    running = managed.router.popen(command("use", "isp_a", "--", "sh", "-c", script))
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=10)[0] == "told\n"
    assert running.returncode == 3


def test_what_goes_on_in_the_background_keeps_the_link(managed: Topology) -> None:
    """Its group stays as long as it does, and goes with the next command."""
    with AccessLogServer(managed.server):
        script = f"(sleep 1; {sys.executable} -c '{TCP}' > /run/seen) > /dev/null 2>&1 &"
        assert "live on, and keep using isp_b" in ctl(managed.router, "use", "isp_b", "--", "sh", "-c", script)
        assert len(groups_left()) == 1
        managed.router.run("until [ -s /run/seen ]; do sleep 0.1; done", timeout=10)
        assert managed.router.run("cat /run/seen").stdout.strip() == B
    ctl(managed.router, "use", "isp_a", "--", "true")
    assert groups_left() == []


def test_a_link_that_leads_nowhere_refuses_and_says_so(managed: Topology) -> None:
    managed.router.ip("link set wan1 down")
    text = ctl(managed.router, "use", "isp_a", "--", sys.executable, "-c", UDP, code=1)
    assert "isp_a leads nowhere now: device wan1 is down" in text
    assert "PermissionError" in text, "and does not go by another link"
