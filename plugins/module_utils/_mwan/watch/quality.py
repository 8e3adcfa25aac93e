# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a link that answers does so well enough: loss and round trip, with different ways in and out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .settings import ProbeSettings
from .target import TargetRecord
from .window import Tally, Z

WINDOW = 30.0
# how long a quality must be fine before a link that was poor counts as fine
FINE_FOR = 30.0
# A slow profile needs a longer window to say anything: as many probes as the default one sends in WINDOW.
PROBES = 180
# Fewer than this are no ground for a verdict.
MIN_PROBES = 60
# Above this share of its declared rate a link is slow because it is used, and moving the load would only move that.
FULL = 0.8


def window_span(settings: ProbeSettings) -> float:
    """Seconds that hold enough probes for the upper bound of no loss at all to be below the threshold to leave."""
    probes = max(PROBES, 200 * Z * Z / settings.loss.leave)
    return max(WINDOW, probes * settings.interval / max(1, len(settings.targets)))


@dataclass(frozen=True)
class Figures:
    """What the window says: the pool without an outlier, the best target's mean round trip, and the outlier.

    `unhindered` is that round trip while the link was not full, None while there is too little to say.
    """

    pool: Tally
    rtt: float | None
    unhindered: float | None
    outlier: TargetRecord | None


def figures(records: Sequence[TargetRecord], now: float) -> Figures:
    tallies = [record.window.tally(now) for record in records]
    pool = sum(tallies, Tally())
    rtt, unhindered = _best(tallies), _unhindered(records, now)
    worst = max(range(len(tallies)), key=lambda index: tallies[index].loss, default=0)
    others = sum(tallies[:worst] + tallies[worst + 1 :], Tally())
    if pool.lost and others.total and tallies[worst].loss_bounds()[0] > others.loss_bounds()[1]:
        return Figures(others, rtt, unhindered, records[worst])
    return Figures(pool, rtt, unhindered, None)


def _best(tallies: Iterable[Tally]) -> float | None:
    return min((tally.rtt for tally in tallies if tally.rtt is not None), default=None)


def _unhindered(records: Sequence[TargetRecord], now: float) -> float | None:
    tallies = [record.unhindered.tally(now) for record in records]
    return _best(tallies) if sum(tally.total for tally in tallies) >= MIN_PROBES else None


class Quality:
    """Remembers whether the link is poor, and why; `poor` is what is known before."""

    def __init__(self, poor: str) -> None:
        self.poor = poor
        self._fine_since: float | None = None

    def reset(self) -> None:
        self.poor = ""
        self._fine_since = None

    def judge(self, found: Figures, settings: ProbeSettings, now: float) -> None:
        reason = _poor(found, settings)
        if reason:
            self.poor = reason
        if not self.poor or reason or not _fine(found, settings):
            self._fine_since = None
        elif self._fine_since is None:
            self._fine_since = now
        elif now - self._fine_since >= FINE_FOR:
            self.reset()


def _poor(found: Figures, settings: ProbeSettings) -> str:
    pool = found.pool
    if pool.total < MIN_PROBES:
        return ""
    if pool.loss_bounds()[0] * 100 > settings.loss.enter:
        return f"{pool.loss:.1%} of {pool.total} probes lost"
    if settings.rtt and found.unhindered is not None and found.unhindered > settings.rtt.enter:
        return f"round trip {found.unhindered * 1000:.0f} ms"
    return ""


def _fine(found: Figures, settings: ProbeSettings) -> bool:
    slow = settings.rtt and found.unhindered is not None and found.unhindered >= settings.rtt.leave
    return found.pool.loss_bounds()[1] * 100 < settings.loss.leave and not slow
