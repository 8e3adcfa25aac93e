# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How many of a number of connections a link may have got by chance, given its weight."""

from __future__ import annotations

from math import exp, lgamma, log, log1p

FALSE_ALARM = 1e-6


def binomial_bounds(number: int, share: float, false_alarm: float = FALSE_ALARM) -> tuple[int, int]:
    """The least and the most hits of `number` independent trials with probability `share`.

    What lies outside happens by chance with a probability below `false_alarm`, half of it at each side.
    """
    if share <= 0.0 or share >= 1.0:
        sure = round(number * share)
        return sure, sure
    chances = [_chance(number, hits, share) for hits in range(number + 1)]
    least = _within(chances, false_alarm / 2)
    most = number - _within(chances[::-1], false_alarm / 2)
    return least, most


def _chance(number: int, hits: int, share: float) -> float:
    ways = lgamma(number + 1) - lgamma(hits + 1) - lgamma(number - hits + 1)
    return exp(ways + hits * log(share) + (number - hits) * log1p(-share))


def _within(chances: list[float], tail: float) -> int:
    """The first index up to which the chances add to `tail` or more."""
    total = 0.0
    for index, chance in enumerate(chances):
        total += chance
        if total >= tail:
            return index
    return len(chances) - 1
