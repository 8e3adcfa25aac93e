# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a link must be stable before it is trusted again: the longer, the more often it failed of late."""

from __future__ import annotations

from .settings import ProbeSettings
from .target import NEVER

# from a second (the shortest up_after) to beyond a day (the longest wait); thousands would be no number any more
DOUBLINGS = 17
# outages that count for less than this are past: a single one is so after one half-life
PAST = 0.5


class Penalty:
    """The number of outages, each counting half after every half-life."""

    def __init__(self) -> None:
        self._count = 0.0
        self._counted_at = 0.0
        # what was before the last outage, and when one was last forgiven
        self._before = 0.0, 0.0
        self._forgiven_at = NEVER

    def outage(self, settings: ProbeSettings, now: float) -> float:
        """Count an outage; returns the seconds to be stable: up_after, doubled for each earlier one that counts."""
        earlier = self._earlier(settings, now)
        self._before = self._count, self._counted_at
        self._count, self._counted_at = earlier + 1, now
        return wait(settings, earlier)

    def lenient(self, settings: ProbeSettings, now: float) -> bool:
        """Whether an outage may be forgiven: no earlier one counts, and none was forgiven for a half-life."""
        rested = now >= self._forgiven_at + settings.damping.half_life
        return rested and self._earlier(settings, now) <= PAST

    def forgive(self, now: float) -> None:
        """Take the last outage back."""
        self._count, self._counted_at = self._before
        self._forgiven_at = now

    def _earlier(self, settings: ProbeSettings, now: float) -> float:
        return float(self._count * 0.5 ** ((now - self._counted_at) / settings.damping.half_life))


def wait(settings: ProbeSettings, earlier: float) -> float:
    """Seconds that a link must be stable when `earlier` outages count."""
    return float(min(settings.damping.longest, settings.up_after * 2 ** min(earlier, DOUBLINGS)))
