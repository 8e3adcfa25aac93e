# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Numbers as medians with their spread, and Markdown tables of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Table:
    """One table of results; `notes` tell how the numbers came about and which aims they meet."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        lines += [_row(row) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([*lines, ""])

    def as_data(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Aim:
    """Whether a ratio is where it is wanted; `at_least` says on which side of the limit that is."""

    limit: float
    at_least: bool = False

    def verdict(self, value: float) -> str:
        met = value >= self.limit if self.at_least else value < self.limit
        return "met" if met else "missed"


def none(cells: Iterable[str]) -> str:
    """What is to be 0, summed over cells that begin with a number, such as `3 of 100`."""
    found = sum(int(cell.split()[0]) for cell in cells)
    return f"{found}, aim 0: {'missed' if found else 'met'}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def times(value: float) -> str:
    return f"{value:.2f}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: both sides of a round ran next to each other, so that the machine's moods divide out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def median_and_range(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    low, middle, high = (f"{value * scale:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> list[str]:
    """p50, p95 and the greatest: the value that so many of the sorted ones do not exceed."""
    ordered = sorted(values)
    places = (rank(len(ordered), share) for share in (0.5, 0.95, 1.0))
    return [f"{ordered[place] * scale:.{digits}f}" for place in places]


def rank(number: int, share: float) -> int:
    """Index of a percentile by nearest rank."""
    return max(0, ceil(share * number) - 1)


class Load:
    """How busy the processors were within the block, with everything that ran on the machine."""

    def __enter__(self) -> Load:
        self._began = processor_times()
        return self

    def __exit__(self, *_: object) -> None:
        busy, total = (after - before for after, before in zip(processor_times(), self._began, strict=True))
        self.busy = busy / total

    def told(self) -> str:
        return f"{os.cpu_count()} processors, {self.busy:.0%} busy on average"


def processor_times() -> tuple[int, int]:
    """Ticks so far, busy and in all. proc(5): user nice system idle iowait irq softirq steal."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
