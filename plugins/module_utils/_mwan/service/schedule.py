# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When to send which probe: an absolute schedule, so that neither work nor jitter adds up. Pure.

The probes of one link are spread over its interval, and links start at different moments of theirs, so that a hundred
of them do not send in the same instant. What was missed while the process stood still is not made up for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import floor

from ..watch.link import Pace

# share of the interval by which a probe leaves late
JITTER = 0.1
NEVER = float("inf")


@dataclass(frozen=True, order=True)
class Slot:
    """A probe to come: `due` is `at`, where the schedule has it, and a little jitter."""

    due: float
    number: int
    at: float
    link: str
    target: int


class Schedule:
    """Targets by link, each asked once in every interval of the link's pace. `random` gives 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._slots: list[Slot] = []
        self._paces: dict[str, tuple[Pace, tuple[int, ...]]] = {}
        self._number = count()

    def follow(self, link: str, targets: Iterable[int], pace: Pace, now: float) -> None:
        """Ask these targets at this pace; what stays as it is goes on where it is.

        A burst starts at once. After one the probes go on as far apart as they usually are.
        """
        listed = tuple(targets)
        before = self._paces.get(link)
        if before == (pace, listed):
            return
        self.drop(link)
        self._paces[link] = pace, listed
        share = pace.interval / max(1, len(listed))
        start = now
        if not pace.burst:
            start += share * self._random() + (share if before else 0.0)
        for place, target in enumerate(listed):
            self._plan(start + place * share, link, target)

    def drop(self, link: str) -> None:
        """Ask nothing over this link."""
        if self._paces.pop(link, None):
            self._slots = [slot for slot in self._slots if slot.link != link]
            heapify(self._slots)

    def keep(self, links: Iterable[str]) -> None:
        """Drop all others."""
        for link in self._paces.keys() - set(links):
            self.drop(link)

    def next(self) -> float:
        """When the next probe is due; infinity when there is none."""
        return self._slots[0].due if self._slots else NEVER

    def take(self, now: float) -> list[tuple[str, int]]:
        """The probes to be sent now, as link and target; one that is an interval late is left out."""
        found = []
        while self._slots and self._slots[0].due <= now:
            slot = heappop(self._slots)
            passed = floor((now - slot.at) / self._paces[slot.link][0].interval)
            if passed < 1:
                found.append((slot.link, slot.target))
            self._plan(slot.at + (passed + 1) * self._paces[slot.link][0].interval, slot.link, slot.target)
        return found

    def _plan(self, at: float, link: str, target: int) -> None:
        jitter = JITTER * self._paces[link][0].interval * self._random()
        heappush(self._slots, Slot(at + jitter, next(self._number), at, link, target))
