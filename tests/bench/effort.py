# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Processor time of a new connection and of a packet in either direction, sender and router together.

In the networks of forwarding.py, where the sender's processor carries its packets all the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..lab.host import Host, LabError
from ..lab.topology import LAN
from ..lab.traffic import Helper
from .figures import ratios
from .forwarding import FLOWS, LOAD, PORT, SERVERS, Side, network

NEW, UP, DOWN = KINDS = ("new connection", "packet up", "packet down")
OWN = "own connection"  # of the router itself
# Datagrams of 18 octets end here, before they reach a socket.
DRAIN = "table inet drain {{ chain c {{ type filter hook prerouting priority raw; {match} udp length 26 drop; }}; }}"
REPLIES = 10
SEGMENTS = 64
NEWCOMERS = 10_000


@dataclass
class Effort:
    """A network, and what was measured in it round by round: microseconds of processor time, by kind."""

    side: Side
    spent: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, seconds: float, kinds: tuple[str, ...] = KINDS) -> None:
        ways = {NEW: self.newcomers, OWN: self.own, UP: self.upload, DOWN: self.download}
        for kind in kinds:
            done = ways[kind](seconds)
            self.spent.setdefault(kind, []).append(1e6 * done["cpu"] / done["sent"])
        self.side.router.run(["conntrack", "-F"])

    def newcomers(self, _seconds: float) -> dict[str, float]:
        """Their number is fixed: the table of connections is to be as full in every round."""
        return self._load(self.side.client, "newcomers", count=NEWCOMERS)

    def own(self, _seconds: float) -> dict[str, float]:
        return self._load(self.side.router, "newcomers", count=NEWCOMERS)

    def upload(self, seconds: float) -> dict[str, float]:
        return self._load(self.side.client, "packets", seconds=seconds, segments=SEGMENTS)

    def download(self, seconds: float) -> dict[str, float]:
        job = {"role": "holder", "destinations": SERVERS[:1], "port": REPLIES, "flows": FLOWS}
        sender = self._start(self.side.server, "replies", port=REPLIES, seconds=seconds, segments=SEGMENTS)
        with Helper(self.side.client, str(LOAD), json.dumps(job)):
            return self._finish(sender)

    def _load(self, host: Host, role: str, **more: Any) -> dict[str, float]:
        return self._finish(self._start(host, role, **more))

    def _start(self, host: Host, role: str, **more: Any) -> Any:
        destinations = SERVERS if role == "newcomers" else SERVERS[:1]
        job = {"role": role, "destinations": destinations, "port": PORT, "flows": FLOWS, **more}
        return host.helper(str(LOAD), json.dumps(job))

    def _finish(self, process: Any) -> dict[str, float]:
        if process.stdout.readline() != "ready\n":
            raise LabError(f"{self.side.router.lab}: a sender did not start")
        said, _unused = process.communicate("go\n", timeout=60)
        return dict(json.loads(said))


@contextmanager
def measured(name: str, links: int) -> Iterator[Effort]:
    """A network of forwarding.py in which replies, too, are cut by the kernel and end before a socket."""
    with network(name, links) as side:
        side.client.nft(DRAIN.format(match='iifname "eth0"'))
        side.server.nft(DRAIN.format(match="udp dport >= 10000"))
        # for packets that are spread one by one, and keep their source
        side.server.ip(f"route add {LAN} via 20.0.1.2")
        for number in range(1, links + 1):
            side.server.ip(f"link set isp{number} gso_max_segs 1")
        yield Effort(side)


def rounds(sides: list[Effort], number: int, seconds: float, kinds: tuple[str, ...] = KINDS) -> None:
    """All take turns, in one order and then in the other; what comes before the first round is not counted."""
    for side in sides:
        side.measure(seconds, kinds)
        side.spent.clear()
    for turn in range(number):
        for side in sides if turn % 2 else reversed(sides):
            side.measure(seconds, kinds)


def cell(spent: dict[str, list[float]], base: dict[str, list[float]], kind: str) -> str:
    """Microseconds, and what a second of processor gets done relative to the base; medians over the rounds."""
    return f"{median(spent[kind]):.2f} ({median(ratios(base[kind], spent[kind])):.2f})"
