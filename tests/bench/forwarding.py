# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Packets and new connections a second through the router, with our rules and with plain routing and one masquerade.

Each side has networks of its own that stay as they were set up, because a namespace that ever had policy rules or
tables of iptables forwards more slowly for the rest of its life: switching one network to and fro would slow the
plain side. Client and server are next to the router, so that as much of the work as possible is the router's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..lab.ansible import CHECKOUT
from ..lab.host import Host, LabError
from ..lab.lab import Lab
from ..lab.topology import LAN, LAN_ROUTER, SERVER_PREFIX
from ..lab.traffic import Helper
from .apply import ENGINE
from .figures import Aim, Table, median_and_range, ratios

LOAD = Path(__file__).with_name("load.py")
AIM = Aim(0.95, at_least=True)
PORT = 9
FLOWS = 32
# What is counted -> datagrams per system call of the sender.
PACKETS = {"packets": 64, "packets, sent one by one": 1}
CONNECTIONS = "new TCP connections"
PER_PROCESSOR = " per second of processor"
SERVERS = [f"7.7.7.{number}" for number in range(7, 207)]
SINK = """
table inet sink {
    counter received { }
    chain arrived { type filter hook prerouting priority raw; udp dport 9 udp length 26 counter name received drop; }
}
"""
MASQUERADE = {
    "nftables": "nft add table ip plain; "
    "nft add chain ip plain out '{ type nat hook postrouting priority srcnat; }'; "
    f"nft add rule ip plain out ip saddr {LAN} oifname wan1 masquerade",
    "iptables": f"iptables-legacy -t nat -A POSTROUTING -s {LAN} -o wan1 -j MASQUERADE",
}


@dataclass
class Side:
    """One network and what was measured in it, round by round."""

    client: Host
    router: Host
    server: Host
    rates: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, seconds: float) -> None:
        for kind, segments in PACKETS.items():
            before = received(self.server)
            sent = self.load("packets", seconds, SERVERS[:1], segments)
            arrived = received(self.server) - before
            if arrived < 0.5 * sent["sent"]:
                raise LabError(f"{self.router.lab}: only {arrived} of {sent['sent']:.0f} packets arrived")
            self.add(kind, arrived, sent)
        made = self.load("connections", seconds, SERVERS)
        self.add(CONNECTIONS, made["sent"], made)
        self.router.run(["conntrack", "-F"])

    def add(self, kind: str, done: float, effort: dict[str, float]) -> None:
        self.rates.setdefault(kind + "/s", []).append(done / effort["seconds"])
        self.rates.setdefault(kind + PER_PROCESSOR, []).append(done / effort["cpu"])

    def load(self, role: str, seconds: float, destinations: list[str], segments: int = 1) -> dict[str, float]:
        job = {"role": role, "seconds": seconds, "destinations": destinations, "port": PORT, "flows": FLOWS}
        job["segments"] = segments
        process = self.client.helper(str(LOAD), json.dumps(job))
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise LabError(f"{self.router.lab}: the {role} sender did not start")
        said, _unused = process.communicate("go\n", timeout=seconds + 30)
        return dict(json.loads(said))


def received(server: Host) -> int:
    listing = json.loads(server.run(["nft", "-j", "list", "counter", "inet", "sink", "received"]).stdout)
    return sum(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)


@contextmanager
def network(name: str, links: int) -> Iterator[Side]:
    """client - router - server, the last two with `links` cables between them."""
    with Lab(name) as lab:
        client, router, server = lab.host("client"), lab.host("router"), lab.host("server")
        lab.connect(client, "eth0", router, "lan0")
        lab.configure(client, ["addr add 192.168.101.1/24 dev eth0", "link set eth0 up gso_max_segs 1"])
        lab.configure(client, [f"route add default via {LAN_ROUTER}"])
        lab.configure(router, [f"addr add {LAN_ROUTER}/24 dev lan0", "link set lan0 up"])
        lab.configure(server, [f"route add local {SERVER_PREFIX} dev lo"], SINK)
        for number in range(1, links + 1):
            lab.connect(router, f"wan{number}", server, f"isp{number}")
            for host, device, last in ((router, "wan", 2), (server, "isp", 1)):
                address = f"addr add 20.0.{number}.{last}/24 dev {device}{number}"
                lab.configure(host, [address, f"link set {device}{number} up"])
        lab.settle()
        job = {"role": "server", "destinations": SERVERS, "port": PORT}
        with Helper(server, str(LOAD), json.dumps(job)):
            yield Side(client, router, server)


def make_plain(router: Host, backend: str) -> None:
    router.ip("route add default via 20.0.1.1 dev wan1")
    router.sysctl("net.ipv4.ip_forward", 1)
    router.run(MASQUERADE[backend])


def make_ours(router: Host, backend: str, links: int, **more: Any) -> dict[str, Any]:
    """`more`: variables of the role. Returns the seconds it took, and the actions."""
    names = [f"link{number}" for number in range(1, links + 1)]
    variables = {
        "mwan_mark_mask": "0x3f00",
        "mwan_firewall_backend": backend,
        "mwan_links": [
            {"name": name, "device": f"wan{number}", "gateway": f"20.0.{number}.1"}
            for number, name in enumerate(names, 1)
        ],
        "mwan_snat": [{"link": name, "source": LAN} for name in names],
        "mwan_policies": [{"name": "balanced", "members": [{"link": name} for name in names]}],
        "mwan_default_policy": "balanced",
        **more,
    }
    job = {"library": str(CHECKOUT / "plugins" / "module_utils"), "variables": variables}
    return dict(json.loads(router.run([sys.executable, "-I", str(ENGINE)], input=json.dumps(job)).stdout))


def measure(quick: bool) -> list[Table]:
    rounds, seconds = (2, 0.4) if quick else (7, 0.8)
    cases = [("nftables", 2), ("iptables", 2)] + ([] if quick else [("nftables", 60), ("iptables", 60)])
    with ExitStack() as stack:
        plain = {backend: stack.enter_context(network(f"plain-{backend}", 1)) for backend in MASQUERADE}
        ours = {case: stack.enter_context(network("mwan-{}-{}".format(*case), case[1])) for case in cases}
        for backend, side in plain.items():
            make_plain(side.router, backend)
        for (backend, links), side in ours.items():
            make_ours(side.router, backend, links)
        sides = [*plain.values(), *ours.values()]
        for number in range(rounds):
            for side in sides if number % 2 else reversed(sides):
                side.measure(seconds)
    return [_table(plain, ours, rounds, seconds)]


def _table(plain: dict[str, Side], ours: dict[tuple[str, int], Side], rounds: int, seconds: float) -> Table:
    rows = []
    notes = [
        f"Median of {rounds} rounds of {seconds} s in which all sides take turns; ratio as median (least to most).",
        f"Packets: {FLOWS} established UDP flows from the LAN with 18 octets each, upload, which is the direction with"
        " more rules to pass; cut by the kernel from bursts of 64, so that nearly all of the time is the router's, or"
        " sent one by one. Connections: connect, then reset, one after the other.",
        "The sender's processor carries its packets all the way, so work per second of it is what is judged: the rates"
        " themselves also tell what else the machine did.",
    ]
    for (backend, links), side in ours.items():
        for kind, rates in side.rates.items():
            ratio = ratios(rates, plain[backend].rates[kind])
            base, rate = (f"{median(values):.0f}" for values in (plain[backend].rates[kind], rates))
            rows.append([backend, str(links), kind, base, rate, median_and_range(ratio)])
            if links == 2 and kind.endswith(PER_PROCESSOR):
                notes.append(f"{backend}, {kind}: {median(ratio):.2f}, aim 0.95: {AIM.verdict(median(ratio))}.")
    columns = ("backend", "links", "what", "plain and masquerade", "with our rules", "ratio")
    return Table("Forwarding", columns, rows, notes)
