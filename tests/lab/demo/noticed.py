# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What clients noticed of an outage. All times are seconds from its moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..clients import Attempt, Flow
from ..impair import Moment

PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "icmp": "ping"}
RESET = "ECONNRESET"


@dataclass(frozen=True)
class Allowed:
    """How long it may take at most, on a machine that may be busy with other things."""

    new: float
    tcp: float
    other: float

    def of(self, protocol: str) -> float:
        return self.tcp if protocol == "tcp" else self.other


@dataclass(frozen=True)
class Noticed:
    """What the flows of one protocol noticed that were on the link that failed."""

    protocol: str
    flows: int
    resets: list[float]
    again: list[float]  # when they were answered again; fewer than flows if some never were
    sources: set[str]  # that the server has seen since

    @property
    def name(self) -> str:
        return PROTOCOLS[self.protocol]

    @property
    def row(self) -> tuple[str, ...]:
        """Name, number, reset after, answered after, seen from."""
        never = self.flows - len(self.again)
        again = span(self.again) + f", {never} never" * bool(never)
        return self.name, str(self.flows), span(self.resets), again, ", ".join(sorted(self.sources))

    def met(self, sources: set[str], allowed: Allowed) -> bool:
        """Whether all of them were answered again in time, from one of these addresses."""
        within = [seconds for seconds in self.again if seconds <= allowed.of(self.protocol)]
        return len(within) == self.flows and self.sources <= sources


def noticed(flows: Sequence[Flow], moment: Moment) -> list[Noticed]:
    """By protocol."""
    return [
        _of_protocol(protocol, [flow for flow in flows if flow.protocol == protocol], moment) for protocol in PROTOCOLS
    ]


def _of_protocol(protocol: str, flows: Sequence[Flow], moment: Moment) -> Noticed:
    answers = [answer for flow in flows if (answer := flow.first_after(moment))]
    broken = [item for flow in flows for item in flow.breaks if item.why == RESET and item.when > moment.began]
    return Noticed(
        protocol,
        len(flows),
        [item.when - moment.time for item in broken],
        [answer.came - moment.time for answer in answers],
        {answer.source for answer in answers},
    )


@dataclass(frozen=True)
class NewConnections:
    """What new connections noticed that were tried after the moment."""

    tried: int
    failed: list[float]  # when these were begun

    @property
    def told(self) -> str:
        if not self.failed:
            return "none failed"
        return f"{len(self.failed)} failed, the last of them begun after {span(self.failed[-1:])}"


def new_connections(attempts: Sequence[Attempt], moment: Moment) -> NewConnections:
    after = [attempt for attempt in attempts if attempt.began > moment.ended]
    return NewConnections(len(after), sorted(item.began - moment.time for item in after if not item.answered))


def span(seconds: Sequence[float]) -> str:
    """The least and the most, where these differ; a dash for none."""
    if not seconds:
        return "-"
    (least, unit), (most, units) = _spoken(min(seconds)), _spoken(max(seconds))
    if (least, unit) == (most, units):
        return f"{most} {units}"
    return f"{least} {unit} to {most} {units}" if unit != units else f"{least} to {most} {units}"


def _spoken(seconds: float) -> tuple[str, str]:
    return (f"{seconds:.1f}", "s") if seconds >= 1 else (f"{seconds * 1000:.0f}", "ms")
