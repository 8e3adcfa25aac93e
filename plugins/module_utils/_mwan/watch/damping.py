# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a link must be stable before it is trusted again: the longer, the more often it failed of late."""

from __future__ import annotations

from .settings import ProbeSettings

# from a second (the shortest up_after) to beyond a day (the longest wait); thousands would be no number any more
DOUBLINGS = 17


class Penalty:
    """The number of outages, each counting half after every half-life."""

    def __init__(self) -> None:
        self._count = 0.0
        self._counted_at = 0.0

    def outage(self, settings: ProbeSettings, now: float) -> float:
        """Count an outage; returns the seconds to be stable: up_after, doubled for each earlier one that counts."""
        earlier = self._count * 0.5 ** ((now - self._counted_at) / settings.damping.half_life)
        self._count, self._counted_at = earlier + 1, now
        return wait(settings, earlier)


def wait(settings: ProbeSettings, earlier: float) -> float:
    """Seconds that a link must be stable when `earlier` outages count."""
    return float(min(settings.damping.longest, settings.up_after * 2 ** min(earlier, DOUBLINGS)))
