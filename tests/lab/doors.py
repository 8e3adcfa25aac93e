# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Hosts behind the router that are reached from elsewhere, and tell where, and by whom."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from .host import HELPERS, Host
from .topology import LAN_ROUTER, Topology
from .traffic import Helper

SILENCE = "ETIMEDOUT"
Asked = tuple[str, str, int, str]


class Doors(Helper):
    """Servers on these addresses and ports of a host, over TCP and UDP."""

    def __init__(self, host: Host, addresses: Sequence[str], ports: Iterable[int]) -> None:
        super().__init__(host, "doors.py", "open", json.dumps({"addresses": addresses, "ports": list(ports)}))


def neighbour(net: Topology, *addresses: str) -> Host:
    """Another host of the client's LAN, with these addresses of 192.168.101.0/24; the client bridges to it."""
    host, lab, client = net.lab.host("neighbour"), net.lab, net.client
    lab.connect(host, "eth0", client, "port")
    own = [f"addr add {address}/24 dev eth0" for address in addresses]
    lab.configure(host, [*own, "link set eth0 up", f"route add default via {LAN_ROUTER} dev eth0"])
    bridged = [f"addr add {address}/24 dev br0" for address in net.client_addresses]
    lines = ["link add br0 type bridge stp_state 0 mcast_snooping 0", "addr flush dev eth0"]
    lines += [f"link set {device} master br0 up" for device in ("eth0", "port")]
    lab.configure(client, [*lines, *bridged, "link set br0 up", f"route add default via {LAN_ROUTER} dev br0"])
    lab.settle()
    return host


def tcp(address: str, port: int, source: str = "") -> Asked:
    return "tcp", address, port, source


def udp(address: str, port: int, source: str = "") -> Asked:
    return "udp", address, port, source


def knock(host: Host, *asked: Asked, timeout: float = 3.0) -> list[str]:
    """Ask all at the same time: for each ``SOURCE ADDRESS:PORT`` as the server saw it, or the name of an error."""
    job = json.dumps({"asked": asked, "timeout": timeout})
    return list(json.loads(host.run([sys.executable, "-I", str(HELPERS / "doors.py"), "knock", job]).stdout))
