# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of what a link can carry is in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..model import Link
from ..ports import FilePort
from ..traffic import octets

Octets = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Rated:
    """A link whose load can be told: `rate` is what it can carry, in bits per second."""

    device: str
    rate: int


def rated(links: Iterable[Link]) -> dict[str, Rated]:
    """The links with a rate and a device of their own: what others send over a device says nothing about a link."""
    listed = list(links)
    sharing = Counter(link.device for link in listed)
    return {link.name: Rated(link.device, link.rate) for link in listed if link.rate and sharing[link.device] == 1}


class Loads:
    """Keeps the counters of devices from one time to the next."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._counters: Octets = {}
        self._latest: dict[str, float] = {}

    def read(self, links: Iterable[Link], files: FilePort, now: float) -> dict[str, float]:
        """As shares(), by the counters of this moment; where no link has a rate, nothing is read."""
        found = rated(links)
        return self.shares(octets(files) if found else {}, found, now)

    def shares(self, counters: Octets, links: Mapping[str, Rated], now: float) -> dict[str, float]:
        """Share of the rate in use in the busier direction since the last call or the one before, whichever is more:
        a full buffer takes a moment to empty. By link; 0 while nothing is known, and for one that is listed no more.
        """
        seconds, before = now - self._since, self._latest
        latest = {
            name: min(1.0, 8 * self._grown(link, counters) / (seconds * link.rate)) for name, link in links.items()
        }
        self._since, self._counters, self._latest = now, counters, latest
        unlisted = dict.fromkeys(before.keys() - links.keys(), 0.0)
        return {**unlisted, **{name: max(share, before.get(name, 0.0)) for name, share in latest.items()}}

    def _grown(self, link: Rated, counters: Octets) -> int:
        """Octets of the busier direction; a device that was made anew began to count anew."""
        before, after = self._counters.get(link.device), counters.get(link.device)
        return max(0, *(after[key] - before[key] for key in ("received", "sent"))) if before and after else 0
