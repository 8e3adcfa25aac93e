# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A list in which the first match decides, as few lookups: what asks for the same fields becomes one of them.

A `Block` is looked up at once, however many choices are in it; blocks are asked in order. In a block no two elements
overlap: where those of two choices would, the earlier one keeps what both have. So the time a packet takes grows with
the number of kinds of conditions that take turns in the list, not with its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heappop, heappush
from itertools import groupby, product
from math import prod
from typing import Any

from .choices import Choice, Condition, NetworkSet

# fields of a condition that are lists of intervals; others are single values
SPANS = ("sources", "destinations", "source_ports", "destination_ports")
KEYS = ("device", "sources", "destinations", "protocol", "source_ports", "destination_ports", "mac", "user", "group")
# What asks for several lists is every combination of them; where these would be more, a list is asked for by itself.
MOST = 256
# What earlier choices leave of a later one is several pieces; with more than these, another lookup is better.
PIECES = 16
# so that looking for overlaps does not take longer than it saves
LARGEST = 2048

# first and last; of single values the same
Span = tuple[Any, Any]
Box = tuple[Span, ...]


@dataclass(frozen=True)
class Block:
    """One lookup. `gate` is asked of every packet; of those that pass, `keys` (fields of a condition) are looked up.

    `elements` are what was asked for, and the position of the choice in its list. Without keys there is one, which
    takes all.
    """

    gate: Condition
    keys: tuple[str, ...]
    elements: tuple[tuple[Box, int], ...]


@dataclass(frozen=True)
class _Asked:
    """A choice with its place in the list; `keys` is empty where all of its condition is asked for as a gate."""

    position: int
    condition: Condition
    keys: tuple[str, ...]

    @property
    def gate(self) -> Condition:
        empty = Condition()
        return replace(self.condition, **{key: getattr(empty, key) for key in self.keys})

    @property
    def kind(self) -> object:
        return (self.keys, self.gate) if self.keys else self.position

    def boxes(self) -> Iterator[Box]:
        return product(*(_spans(key, getattr(self.condition, key)) for key in self.keys))


@lru_cache(maxsize=8)
def compiled(choices: tuple[Choice, ...], sets: tuple[NetworkSet, ...]) -> tuple[Block, ...]:
    """The blocks in the order in which they are asked. What stands behind an unconditional choice is left out."""
    asked = _reachable(_asked(choices, {item.name: item for item in sets}))
    return tuple(block for _kind, run in groupby(asked, lambda item: item.kind) for block in _blocks(list(run)))


def _asked(choices: Sequence[Choice], sets: dict[str, NetworkSet]) -> Iterator[_Asked]:
    for position, choice in enumerate(choices):
        condition = _spelt_out(choice.condition, sets)
        if condition:
            yield _Asked(position, condition, _keys(condition))


def _reachable(asked: Iterable[_Asked]) -> Iterator[_Asked]:
    for item in asked:
        yield item
        if item.condition == Condition():
            return


def _spelt_out(condition: Condition, sets: dict[str, NetworkSet]) -> Condition | None:
    """With the networks of our own sets in the place of their names; None where such a set is empty."""
    changes: dict[str, Any] = {}
    for name, networks in (("source_set", "sources"), ("destination_set", "destinations")):
        item = sets.get(getattr(condition, name) or "")
        if item and not item.external:
            if not item.networks:
                return None
            changes.update({name: None, networks: item.networks})
    return replace(condition, **changes) if changes else condition


def _keys(condition: Condition) -> tuple[str, ...]:
    """The fields to look up. What nft cannot join with others (bits of a field) is a key by itself only."""
    empty = Condition()
    found = {key: _number(condition, key) for key in KEYS if getattr(condition, key) != getattr(empty, key)}
    while len(found) > 1 and prod(found.values()) > MOST:
        del found[max(found, key=lambda key: found[key])]
    return tuple(found) or (("dscp",) if condition.dscp is not None else ())


def _number(condition: Condition, key: str) -> int:
    return len(getattr(condition, key)) if key in SPANS else 1


def _blocks(run: list[_Asked]) -> Iterator[Block]:
    if len(run) == 1:
        yield Block(run[0].condition, (), (((), run[0].position),))
        return
    keys = _differing(run)
    run = [replace(item, keys=keys) for item in run]
    first = run[0]
    axes = [
        index for index in range(len(first.keys)) if _overlapping(box[index] for item in run for box in item.boxes())
    ]
    layers = [list(_swept(run, axes))] if len(axes) <= 1 else _carved(run, axes)
    yield from (Block(first.gate, first.keys, tuple(elements)) for elements in layers)


def _differing(run: list[_Asked]) -> tuple[str, ...]:
    """The keys in which they differ. What they have in common is asked once, before the lookup.

    Of networks in one field the kernel makes a tree; of those in several, a set that takes longer with each it has.
    """
    first, *others = run
    alike = {
        key
        for key in first.keys
        if all(getattr(item.condition, key) == getattr(first.condition, key) for item in others)
    }
    return tuple(key for key in first.keys if key not in alike) or first.keys[:1]


def _overlapping(spans: Iterable[Span]) -> bool:
    """Whether any two of them overlap and are not the same."""
    ordered = sorted(set(spans))
    return any(low <= high for (_low, high), (low, _high) in zip(ordered, ordered[1:]))


def _swept(run: Iterable[_Asked], axes: Sequence[int]) -> Iterator[tuple[Box, int]]:
    """Where spans of one key at most overlap, what the earlier ones leave is found by going along it."""
    if not axes:
        first: dict[Box, int] = {}
        for item in run:
            for box in item.boxes():
                first.setdefault(box, item.position)
        yield from first.items()
        return
    axis = axes[0]
    groups: dict[Box, list[tuple[int, int, int]]] = {}
    for item in run:
        for box in item.boxes():
            low, high = box[axis]
            groups.setdefault((*box[:axis], *box[axis + 1 :]), []).append((low, high, item.position))
    for others, spans in groups.items():
        for low, high, position in first_wins(spans):
            yield (*others[:axis], (low, high), *others[axis:]), position


def first_wins(spans: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """First, last and position of what has none of a lower position over it; in order, and joined where they meet."""
    waiting = sorted(spans, reverse=True)
    points = sorted({low for low, _high, _position in waiting} | {high + 1 for _low, high, _position in waiting})
    here: list[tuple[int, int]] = []
    found: list[tuple[int, int, int]] = []
    for low, beyond in zip(points, points[1:]):
        while waiting and waiting[-1][0] <= low:
            _low, high, position = waiting.pop()
            heappush(here, (position, high))
        while here and here[0][1] < low:
            heappop(here)
        if not here:
            continue
        position = here[0][0]
        joined = found.pop()[0] if found and found[-1][1:] == (low - 1, position) else low
        found.append((joined, beyond - 1, position))
    return found


def _carved(run: Iterable[_Asked], axes: Sequence[int]) -> Iterator[list[tuple[Box, int]]]:
    """Of each choice what the earlier ones leave; a new block where that is too much, or would be too slow to find."""
    block = _Carving(axes)
    for item in run:
        if not block.take(item):
            yield block.elements
            block = _Carving(axes)
            block.take(item)
    yield block.elements


class _Carving:
    def __init__(self, axes: Sequence[int]) -> None:
        self.elements: list[tuple[Box, int]] = []
        self._axes = axes
        self._placed: dict[Box, list[Box]] = {}

    def take(self, item: _Asked) -> bool:
        """Whether the choice found its place; an empty block takes any."""
        pieces: list[Box] = []
        for box in item.boxes():
            pieces += self._left(box, pieces)
            if self._full(len(pieces)):
                return False
        for piece in pieces:
            self._near(piece).append(piece)
        self.elements += [(piece, item.position) for piece in pieces]
        return True

    def _full(self, more: int) -> bool:
        return bool(self.elements) and (more > PIECES or len(self.elements) + more > LARGEST)

    def _near(self, box: Box) -> list[Box]:
        """What is placed already and has the same single values."""
        return self._placed.setdefault(tuple(span for index, span in enumerate(box) if index not in self._axes), [])

    def _left(self, box: Box, own: list[Box]) -> list[Box]:
        axis = self._axes[0]
        (low, high), left = box[axis], [box]
        for hole in (*self._near(box), *own):
            if hole[axis][0] <= high and low <= hole[axis][1]:
                left = [piece for part in left for piece in _minus(part, hole)]
                if self._full(len(left)):
                    break
        return left


def _minus(box: Box, hole: Box) -> list[Box]:
    """What of a box is outside another, as boxes that do not overlap."""
    if not all(low <= last and first <= high for (low, high), (first, last) in zip(box, hole)):
        return [box]
    pieces = []
    for axis, ((low, high), (first, last)) in enumerate(zip(box, hole)):
        if low < first:
            pieces.append((*box[:axis], (low, first - 1), *box[axis + 1 :]))
        if last < high:
            pieces.append((*box[:axis], (last + 1, high), *box[axis + 1 :]))
        box = (*box[:axis], (max(low, first), min(high, last)), *box[axis + 1 :])
    return pieces


def _spans(key: str, value: Any) -> Sequence[Span]:
    if key in ("sources", "destinations"):
        return [network_span(network) for network in value]
    return value if key in SPANS else ((value, value),)


def network_span(network: str) -> tuple[int, int]:
    """The first and last address of an IPv4 network, as numbers; ipaddress takes ten times as long."""
    address, _slash, length = network.partition("/")
    first = 0
    for part in address.split("."):
        first = first << 8 | int(part)
    return first, first | (1 << 32 - int(length or 32)) - 1
