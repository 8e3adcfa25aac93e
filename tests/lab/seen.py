# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What flows of LAN clients saw of an outage, put into few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .clients import Clients, Outage
from .impair import Moment

FLOWS: dict[str, Any] = {"tcp": 3, "udp": 3, "icmp": 2}
HAPPY = 0.6  # seconds without an answer that a busy machine alone explains; they ask every 50 ms
RESET_ONCE = {"tcp": {1}, "udp": {0}, "icmp": {0}}


def sources(outages: Iterable[Outage]) -> set[str | None]:
    """The addresses they were seen from when they were answered again."""
    return {outage.after for outage in outages}


def slowest(outages: Iterable[Outage]) -> float:
    """Seconds until the last of them was answered again; infinite if one was not."""
    return max(float("inf") if outage.seconds is None else outage.seconds for outage in outages)


def resets(outages: Iterable[Outage]) -> dict[str, set[int]]:
    """How many resets the flows of each protocol met."""
    found: dict[str, set[int]] = {}
    for outage in outages:
        found.setdefault(outage.protocol, set()).add(outage.resets)
    return found


def breaks(outages: Iterable[Outage]) -> dict[str, list[str]]:
    """The errors that each protocol's flows met; protocols that met none are left out."""
    met: dict[str, list[str]] = {}
    for outage in outages:
        if outage.breaks:
            met.setdefault(outage.protocol, []).extend(outage.breaks)
    return met


def disturbed(clients: Clients, since: Moment) -> list[Outage]:
    """The flows that have moved, broken off or waited since then."""
    return [
        outage
        for outage in clients.outages(since)
        if outage.breaks or outage.after != outage.before or outage.longest_gap > HAPPY
    ]
