# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which link takes the next connection. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A link that takes new connections now."""

    name: str
    mark: int
    weight: int


def choose(links: Sequence[Candidate], load: Mapping[int, int], turn: int = 0) -> int:
    """The place of the link that has the fewest connections for its weight once it has one more.

    `load` tells how many each has, by mark. Among equals the one with the fewest takes it, and among those the next
    one from place `turn` on. Raises ValueError when there are none.
    """
    return min(range(len(links)), key=lambda place: _claim(links[place], load, (place - turn) % len(links)))


def _claim(link: Candidate, load: Mapping[int, int], turn: int) -> tuple[float, int, int]:
    """Equal ratios of integers are equal when divided, too: IEEE 754 rounds each exact quotient the same way."""
    has = load.get(link.mark, 0)
    return (has + 1) / link.weight, has, turn
