# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of what a link can carry is in use. Pure."""

from __future__ import annotations

from collections.abc import Mapping

# seconds that a share is the mean of, at least
SPAN = 3.0


class Loads:
    """Keeps the counters of devices from one time to the next."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._counters: Mapping[str, Mapping[str, int]] = {}

    def shares(
        self,
        counters: Mapping[str, Mapping[str, int]],
        devices: Mapping[str, str],
        rates: Mapping[str, int],
        now: float,
    ) -> dict[str, float]:
        """Share of the rate (bits per second) in use in the busier direction, by link; empty until SPAN has passed.

        Links that share a device share its counters: the load of all of them is taken for that of each.
        """
        seconds = now - self._since
        if seconds < SPAN:
            return {}
        before, self._counters, self._since = self._counters, counters, now
        return {
            name: min(1.0, 8 * _grown(before[device], counters[device]) / (seconds * rates[name]))
            for name, device in devices.items()
            if device in before and device in counters
        }


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Octets of the busier direction; a device that was made anew began to count anew."""
    return max(0, *(after[key] - before[key] for key in ("received", "sent")))
