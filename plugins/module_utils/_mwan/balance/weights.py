# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Weights of a multipath route under which the next connections bring the links' counts to proportion. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2

from ..values import MAX_WEIGHT
from .chooser import Candidate

# Factors between what a link takes and what it is declared to take: powers of the square root of 2, from 1/256 to 256.
# What changes a share by less than a fifth changes nothing: chance does as much.
STEPS_PER_OCTAVE, MOST_STEPS = 2, 16
# connections for each link, below which counts tell more of our probes, two or three on each, than of clients
FEW = 10


def weights(links: Sequence[Candidate], staying: Mapping[int, float], arrivals: float) -> dict[str, int]:
    """By link, 1 to 256; the declared ones where these do.

    `staying`: how many of today's connections each link (by mark) will still have at the end of the interval;
    `arrivals`: how many that begin in it will be there as well. A link that has its due or more gets little, not none:
    the kernel's route has no such weight, and new clients tell whether it still works.
    """
    total = sum(link.weight for link in links)
    due = (sum(staying.get(link.mark, 0.0) for link in links) + arrivals) / total if total else 0.0
    needs = {link.name: max(0.0, due * link.weight - staying.get(link.mark, 0.0)) for link in links}
    wanted = sum(needs.values())
    steps = {link.name: _steps(needs[link.name] * total, wanted * link.weight) for link in links}
    if len(set(steps.values())) < 2 or sum(staying.values()) + arrivals < FEW * len(links):
        return {link.name: link.weight for link in links}
    exact = {link.name: link.weight * 2.0 ** (steps[link.name] / STEPS_PER_OCTAVE) for link in links}
    scale = MAX_WEIGHT / max(exact.values())
    return {name: max(1, round(value * scale)) for name, value in exact.items()}


def _steps(needed: float, usual: float) -> int:
    """How much more than usual, in steps; 0 where nothing is expected."""
    if not usual:
        return 0
    ratio = needed / usual
    if ratio <= 2.0 ** (-MOST_STEPS / STEPS_PER_OCTAVE):
        return -MOST_STEPS
    return min(MOST_STEPS, round(STEPS_PER_OCTAVE * log2(ratio)))


def staying(before: Mapping[int, int], now: Mapping[int, int]) -> tuple[dict[int, float], float]:
    """What weights() asks for, from the open connections (id to link's mark) an interval ago and now.

    The next interval is taken to be as the last one was: the same share of connections ends, whichever link they are
    on, and as many begin that are still there at its end.
    """
    lasted = before.keys() & now.keys()
    share = len(lasted) / len(before) if before else 1.0
    counts: dict[int, float] = {}
    for mark in now.values():
        counts[mark] = counts.get(mark, 0.0) + share
    return counts, float(len(now) - len(lasted))
