# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A prober in virtual time: sends what the Watch asks for over simulated paths and lets it decide.

Event driven, so that a simulated day takes seconds, and the same for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil
from random import Random

from _mwan.watch.judge import Change, Watch
from _mwan.watch.link import GATEWAY
from _mwan.watch.settings import ProbeSettings

# share of the interval by which a probe leaves late
JITTER = 0.1
Span = tuple[float, float]


@dataclass
class Bursts:
    """Everything is lost for a while, now and then; mean seconds between and within, both exponential."""

    between: float
    within: float
    _spans: list[Span] = field(default_factory=list)

    def covers(self, moment: float, random: Random) -> bool:
        while not self._spans or self._spans[-1][1] < moment:
            start = (self._spans[-1][1] if self._spans else 0.0) + random.expovariate(1 / self.between)
            self._spans = [*self._spans[-1:], (start, start + random.expovariate(1 / self.within))]
        return any(start <= moment < end for start, end in self._spans)


@dataclass
class Path:
    """What happens to the probes of one link; times in seconds, loss as a share."""

    rtt: float = 0.02
    jitter: float = 0.005
    loss: float = 0.0
    bursts: Bursts | None = None
    # nothing comes back
    dark: list[Span] = field(default_factory=list)
    # the gateway says unreachable
    refused: list[Span] = field(default_factory=list)
    # a queue of so many seconds is full: (start, end, delay)
    queue: list[tuple[float, float, float]] = field(default_factory=list)
    dead_targets: frozenset[int] = frozenset()

    def reply_after(self, target: int, sent: float, random: Random) -> float | None:
        """Seconds until the reply arrives, None when it does not."""
        if target in self.dead_targets or (self.loss and random.random() < self.loss):
            return None
        delay = self.rtt + self.jitter * random.random()
        delay += sum(more for start, end, more in self.queue if start <= sent < end)
        if any(start <= sent + delay and sent < end for start, end in self.dark):
            return None
        return None if self.bursts and self.bursts.covers(sent, random) else delay

    def refuses(self, moment: float) -> bool:
        return any(start <= moment < end for start, end in self.refused)


@dataclass(frozen=True)
class Seen:
    """A change, and when it was decided."""

    at: float
    change: Change

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.change.link}: {self.change.before} -> {self.change.after} ({self.change.reason})"


class Simulation:
    """Links with their paths; `run` goes on to a time, and paths may be altered between runs."""

    def __init__(
        self,
        settings: Mapping[str, ProbeSettings],
        paths: Mapping[str, Path],
        seed: int = 0,
        adopted: Mapping[str, str] | None = None,
        stops: Iterable[Span] = (),
    ) -> None:
        self.settings = settings
        self.paths = paths
        self.random = Random(seed)
        self.now = 0.0
        self.watch = Watch(settings, dict.fromkeys(settings, "up") if adopted is None else adopted, 0.0)
        self.seen: list[Seen] = []
        self.probes = 0
        self._stops = sorted(stops)
        self._order = count()
        self._seq = count()
        self._events: list[tuple[float, int, str, str, int, int]] = []
        self._generation = dict.fromkeys(settings, 0)
        self._pace = {name: self.watch.pace(name, 0.0) for name in settings}
        # seq -> when the probe is due, and in which generation of the link's schedule
        self._planned: dict[int, tuple[float, int]] = {}
        self._kernel: dict[int, tuple[bool, str, bool]] = {}
        for name in settings:
            self._schedule(name, 0.0)

    def kernel(self, at: float, link: str, ready: bool, reason: str = "carrier lost", passing: bool = False) -> None:
        """Let the kernel report something at a time to come."""
        number = next(self._order)
        self._kernel[number] = ready, reason, passing
        self._push(at, "kernel", link, 0, number)

    def run(self, until: float) -> Simulation:
        while self._stops and self._stops[0][0] <= until:
            start, seconds = self._stops.pop(0)
            self._run(start)
            self._stop(start, seconds)
        self._run(until)
        return self

    def _run(self, until: float) -> None:
        events, watch = self._events, self.watch
        deadline = watch.next_deadline(self.now)
        while True:
            if events and events[0][0] <= deadline:
                if events[0][0] > until:
                    break
                event = heappop(events)
                self.now = max(self.now, event[0])
                self._handle(event)
                deadline = watch.next_deadline(self.now)
            elif deadline > until:
                break
            if deadline <= max(self.now, events[0][0] if events else deadline):
                self.now = deadline
                self._decide()
                deadline = watch.next_deadline(self.now)
        self.now = max(self.now, until)

    def states(self, link: str) -> list[str]:
        """The states that the link entered so far."""
        return [item.change.after for item in self.seen if item.change.link == link]

    def _stop(self, start: float, seconds: float) -> None:
        """The process does not run; what arrived meanwhile is read before anything is decided."""
        self.now = start + seconds
        late = []
        while self._events and self._events[0][0] <= self.now:
            late.append(heappop(self._events))
        for event in late:
            if event[2] == "send":
                self._skip(event[3], event[4], event[5])
            else:
                self._handle(event)
        self.watch.lag(seconds, self.now)
        self._decide()

    def _skip(self, link: str, target: int, seq: int) -> None:
        """Go on with the schedule where it is now; what was missed is not made up for."""
        at, generation = self._planned.pop(seq)
        interval = self._pace[link].interval
        self._plan(at + interval * ceil((self.now - at) / interval), link, target, generation)

    def _decide(self) -> None:
        self.seen += [Seen(self.now, change) for change in self.watch.decide(self.now)]
        for name, before in self._pace.items():
            pace = self.watch.pace(name, self.now)
            if pace is not before:
                self._pace[name] = pace
                self._schedule(name, 0.0 if pace.burst else 1.0)

    def _schedule(self, link: str, wait: float) -> None:
        """Begin anew with this link's probes, spread over an interval; `wait`: for so many times their distance."""
        self._generation[link] += 1
        pace = self._pace[link]
        targets = [*range(len(self.settings[link].targets)), *([GATEWAY] if pace.gateway else [])]
        for place, target in enumerate(targets):
            at = self.now + (wait + place) * pace.interval / len(targets)
            self._plan(at, link, target, self._generation[link])

    def _plan(self, at: float, link: str, target: int, generation: int) -> None:
        """An absolute schedule, from which each probe is a little late: the targets' probes stay spread."""
        number = next(self._seq)
        self._planned[number] = at, generation
        self._push(at + self._pace[link].interval * JITTER * self.random.random(), "send", link, target, number)

    def _push(self, at: float, kind: str, link: str, target: int, number: int) -> None:
        heappush(self._events, (at, next(self._order), kind, link, target, number))

    def _handle(self, event: tuple[float, int, str, str, int, int]) -> None:
        _at, _order, kind, link, target, number = event
        if kind == "send":
            self._send(link, target, number)
        elif kind == "reply":
            self.watch.replied(link, target, number, self.now)
        elif kind == "refusal":
            self.watch.refused(link, target, number, self.now, "network unreachable")
        else:
            ready, reason, passing = self._kernel.pop(number)
            self.watch.kernel(link, ready, reason, self.now, passing)

    def _send(self, link: str, target: int, seq: int) -> None:
        now, path = self.now, self.paths[link]
        at, generation = self._planned.pop(seq)
        if generation != self._generation[link]:
            return
        self.probes += 1
        self.watch.sent(link, target, seq, now)
        if path.refused and path.refuses(now):
            self._push(now + 0.001, "refusal", link, target, seq)
        else:
            delay = path.reply_after(target, now, self.random)
            if delay is not None:
                self._push(now + delay, "reply", link, target, seq)
        self._plan(at + self._pace[link].interval, link, target, generation)
