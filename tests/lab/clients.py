# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Clients of the LAN that go on whatever happens to the links, and what each of them saw of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .host import Host, LabError
from .impair import Moment
from .topology import SERVER
from .traffic import ECHO_PORT, Helper

DESTINATIONS = tuple(f"7.7.7.{n}" for n in range(1, 255))  # all of them the server
PORTS = 512  # for the attempts and reconnections of one set of flows
# looks in vain, 0.05 s apart: Linux waits 0.2 s at least before it sends again over TCP (TCP_RTO_MIN of net/tcp.h)
SENT_AGAIN = 3
LOOK = 0.02  # seconds


@dataclass(frozen=True)
class Answer:
    """Monotonic times of question and answer, the source address the server saw, and how often, every 0.05 s, a TCP
    client looked for the answer in vain."""

    asked: float
    came: float
    source: str
    looks: int = 0


@dataclass(frozen=True)
class Break:
    """An error that was met: ECONNRESET and the like, `timeout` (patience at its end), `closed` (by the server)."""

    when: float
    why: str


@dataclass(frozen=True)
class Flow:
    """One client's flow. A TCP flow is several connections in a row: one more after every break."""

    protocol: str
    destination: str
    answers: list[Answer]
    breaks: list[Break]
    connects: list[float]

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time in seconds without an answer, between two monotonic times."""
        times = [start, *(answer.came for answer in self.answers if start < answer.came < end), end]
        return max(later - earlier for earlier, later in pairwise(times))

    def source_at(self, when: float) -> str | None:
        """The source address of the last answer before that time."""
        return next((answer.source for answer in reversed(self.answers) if answer.came < when), None)

    def first_after(self, moment: Moment) -> Answer | None:
        """The first answer that what happened then cannot have let through: it came later, and was asked for later too.

        Over TCP an earlier question counts that was sent again until it was answered; other answers were on their way,
        or there already when a client that got no time for long looked at last.
        """
        return next(
            (
                answer
                for answer in self.answers
                if answer.asked > moment.ended or (answer.looks >= SENT_AGAIN and answer.came > moment.ended)
            ),
            None,
        )

    def outage(self, moment: Moment, until: float) -> Outage:
        first = self.first_after(moment)
        why = [item.why for item in self.breaks if item.when >= moment.began]
        return Outage(
            protocol=self.protocol,
            before=self.source_at(moment.began),
            after=first.source if first else None,
            seconds=first.came - moment.time if first else None,
            breaks=why,
            resets=why.count("ECONNRESET"),
            reconnects=sum(when >= moment.began for when in self.connects),
            longest_gap=self.longest_gap(moment.began, until),
        )


@dataclass(frozen=True)
class Outage:
    """What a flow saw of something that happened at a moment: answered again after `seconds`, seen from `after`."""

    protocol: str
    before: str | None
    after: str | None  # None: no answer yet
    seconds: float | None
    breaks: list[str]
    resets: int
    reconnects: int
    longest_gap: float  # from that moment until it was looked at


@dataclass(frozen=True)
class Attempt:
    """One new connection: when it was tried, and whether it was answered within its patience."""

    began: float
    answered: bool


class Newcomers(Helper):
    """New connections to an EchoServer, one every `interval` seconds from now on until told()."""

    def __init__(
        self,
        client: Host,
        destination: str = SERVER,
        *,
        interval: float = 0.04,
        patience: float = 0.9,
        port: int = ECHO_PORT,
    ) -> None:
        job = {
            "destination": destination,
            "port": port,
            "interval": interval,
            "patience": patience,  # the first packet is sent again after 1 s: by default one that is lost is a failure
            "first_port": client.take_ports(PORTS),
            "ports": PORTS,
        }
        super().__init__(client, "newcomers.py", json.dumps(job))

    def told(self) -> list[Attempt]:
        """End, and tell of every attempt, in their order."""
        return [Attempt(*attempt) for attempt in json.loads(self.end())]


def outage_of(attempts: Sequence[Attempt], moment: Moment) -> float | None:
    """Seconds until the first attempt from which on all were answered; 0 if none failed, None if the last one did."""
    after = [attempt for attempt in attempts if attempt.began > moment.ended]
    failed = [attempt.began for attempt in after if not attempt.answered]
    if not failed:
        return 0.0
    return next((attempt.began - moment.time for attempt in after if attempt.began > failed[-1]), None)


class Clients(Helper):
    """Flows of all three protocols in one process, talking to an EchoServer every `interval` seconds.

    TCP asks, waits for the answer (`patience`), and connects anew after a break, trying `connect_patience` each time;
    UDP keeps its source port and ICMP its id. With `want`, all flows start on the link of that source address. For a
    new trial call renew(): a flow that has seen an outage is on another link.
    """

    def __init__(
        self,
        client: Host,
        *,
        tcp: int = 0,
        udp: int = 0,
        icmp: int = 0,
        want: str = "",
        interval: float = 0.05,
        patience: float = 10.0,
        connect_patience: float = 1.0,
        destinations: Sequence[str] = DESTINATIONS,
        port: int = ECHO_PORT,
    ) -> None:
        job = {
            "tcp": tcp,
            "udp": udp,
            "icmp": icmp,
            "interval": interval,
            "patience": patience,
            "connect_patience": connect_patience,
            "destinations": list(destinations),
            "port": port,
        }
        super().__init__(client, "clients.py", json.dumps(job))
        self.renew(want)

    def renew(self, want: str = "") -> None:
        """End all flows, and open as many on ports, ids and connections that no earlier one had."""
        problem = self._order("begin", want=want, first_port=self.host.take_ports(PORTS), ports=PORTS)
        if problem:
            raise LabError(problem)

    def flows(self, since: float = 0.0) -> list[Flow]:
        """What they saw, from the last answer before `since` on."""
        return [
            Flow(
                told["protocol"],
                told["destination"],
                [Answer(*answer) for answer in told["answers"]],
                [Break(*item) for item in told["breaks"]],
                told["connects"],
            )
            for told in self._order("tell", since=since)
        ]

    def outages(self, moment: Moment, source: str = "", patience: float = 0.0) -> list[Outage]:
        """What each flow saw that was on the link of that source address at the moment (empty: all).

        Waits until all of them have been answered again, at most `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while True:
            flows = self.flows(moment.began)
            seen = [flow.outage(moment, time.monotonic()) for flow in flows]
            seen = [outage for outage in seen if source in ("", outage.before)]
            if time.monotonic() >= deadline or all(outage.after for outage in seen):
                return seen
            time.sleep(LOOK)

    def _order(self, do: str, **what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
