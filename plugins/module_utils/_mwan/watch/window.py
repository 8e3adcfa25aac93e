# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of the probes of a sliding window, and how sure a share of losses is."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

SLOTS = 30
# 95 % two-sided confidence
Z = 1.96


@dataclass(frozen=True)
class Tally:
    """Probes counted, those lost among them, and the sum of the others' round trips in seconds."""

    total: int = 0
    lost: int = 0
    rtt_sum: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.lost + other.lost, self.rtt_sum + other.rtt_sum)

    @property
    def loss(self) -> float:
        """The share lost, 0 to 1."""
        return self.lost / self.total if self.total else 0.0

    @property
    def rtt(self) -> float | None:
        """The mean round trip, None when nothing was answered."""
        answered = self.total - self.lost
        return self.rtt_sum / answered if answered else None

    def loss_bounds(self) -> tuple[float, float]:
        """Between which shares the loss is, by E. B. Wilson's score interval (JASA 22, 1927); (0, 1) for no probes."""
        if not self.total:
            return 0.0, 1.0
        share, spread = self.loss, Z * Z / self.total
        centre = share + spread / 2
        half = Z * sqrt(share * (1 - share) / self.total + spread / (4 * self.total))
        return (centre - half) / (1 + spread), (centre + half) / (1 + spread)


class Window:
    """A tally over the last `span` seconds, in SLOTS steps."""

    def __init__(self, span: float) -> None:
        self.span = span
        self.width = span / SLOTS
        self.clear()

    def clear(self) -> None:
        self._slots = [[0, 0, 0.0] for _unused in range(SLOTS)]
        self._sum = [0, 0, 0.0]
        self._newest = 0

    def answered(self, now: float, rtt: float) -> None:
        for counts in (self._slot(now), self._sum):
            counts[0] += 1
            counts[2] += rtt

    def lost(self, now: float) -> None:
        for counts in (self._slot(now), self._sum):
            counts[0] += 1
            counts[1] += 1

    def tally(self, now: float) -> Tally:
        self._slot(now)
        return Tally(int(self._sum[0]), int(self._sum[1]), self._sum[2])

    def _slot(self, now: float) -> list[float]:
        """The counts of this moment, after forgetting those that left the window."""
        newest = int(now / self.width)
        if newest > self._newest:
            for passed in range(max(self._newest + 1, newest - SLOTS + 1), newest + 1):
                self._forget(self._slots[passed % SLOTS])
            self._newest = newest
        return self._slots[self._newest % SLOTS]

    def _forget(self, slot: list[float]) -> None:
        for index in range(3):
            self._sum[index] -= slot[index]
            slot[index] = 0
        if not self._sum[0]:
            self._sum[2] = 0.0
