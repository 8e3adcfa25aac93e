# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a policy spreads new connections over its members, and for how long a client stays with one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import values
from .errors import InputError

MULTIPATH, RANDOM, ROUND_ROBIN, SOURCE_HASH, SOURCE_DESTINATION_HASH, LEAST_CONNECTIONS, PER_PACKET = ALGORITHMS = (
    *("multipath", "random", "round_robin", "source_hash", "source_destination_hash"),
    *("least_connections", "per_packet"),
)
HASHES = (SOURCE_HASH, SOURCE_DESTINATION_HASH)
METHODS = ("queue", "weights")
STICK_BY = ("source", "source_destination")
DAY = 86400
# into which a hash is divided: one in 4096 is finer than any weight needs
BUCKETS = 4096

# first and last bucket, and the link whose they are
Part = tuple[int, int, str]


@dataclass(frozen=True)
class LeastConnections:
    """How the fewest connections are found: each new one is asked for in user space ("queue"), or the weights of the
    kernel's multipath route follow the counts every `interval` seconds ("weights")."""

    method: str = "queue"
    interval: float = 5.0

    @classmethod
    def parse(cls, option: str, data: Any) -> LeastConnections:
        data = values.only_keys(option, data, ("method", "interval"))
        if "interval" in data and data.get("method", cls.method) != "weights":
            raise InputError(option + ".interval", data["interval"], "is for method weights", "Leave it out")
        return cls(
            method=values.choice(option + ".method", data.get("method", cls.method), METHODS),
            interval=values.seconds(option + ".interval", data.get("interval", cls.interval), 1, 3600),
        )

    def dump(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Sticky:
    """A client keeps its link until it has been silent for so many seconds; 0: it does not.

    `by`: what a client is, its address, or the pair of its address and the one it talks to.
    """

    timeout: int = 0
    by: str = "source"

    @classmethod
    def parse(cls, option: str, data: Any) -> Sticky:
        if not isinstance(data, Mapping):
            data = {"timeout": data}
        data = values.only_keys(option, data, ("timeout", "by"))
        if "by" in data and "timeout" not in data:
            raise InputError(option + ".timeout", None, "is missing", "Give seconds, or text such as 10min")
        timeout = values.seconds(option, data.get("timeout", 0), 0, 30 * DAY)
        return cls(round(timeout), values.choice(option + ".by", data.get("by", cls.by), STICK_BY))

    def dump(self) -> dict[str, Any]:
        return dict(vars(self))

    def __bool__(self) -> bool:
        return bool(self.timeout)


def in_turn(weights: Sequence[int]) -> list[int]:
    """One round: which member (by index) takes the next connection, each as often as it weighs, evenly mixed.

    Who is furthest behind its share is next.
    """
    total, owed = sum(weights), [0] * len(weights)
    turns = []
    for _unused in range(total):
        owed = [debt + weight for debt, weight in zip(owed, weights)]
        chosen = max(range(len(owed)), key=lambda index: owed[index])
        owed[chosen] -= total
        turns.append(chosen)
    return turns


def buckets(weights: Mapping[str, int], alive: Iterable[str]) -> list[Part]:
    """Which links take what falls into which buckets, in order.

    A link has the buckets it would have if all were alive. Those of a dead one are divided among the others, and only
    they: what belongs to a living link stays, whoever else comes or goes.
    """
    living = frozenset(alive)
    parts = _divided((0, BUCKETS), weights, living) if living & weights.keys() else ()
    return _joined(parts)


def _divided(
    whole: tuple[int, int], weights: Mapping[str, int], alive: frozenset[str]
) -> Iterator[tuple[int, int, str]]:
    start, end = whole
    total, below = sum(weights.values()), 0
    for name, weight in weights.items():
        low = start + round((end - start) * below / total)
        below += weight
        high = start + round((end - start) * below / total)
        if name in alive and low < high:
            yield low, high - 1, name
        elif low < high:
            yield from _divided((low, high), {key: item for key, item in weights.items() if key != name}, alive)


def _joined(parts: Iterable[Part]) -> list[Part]:
    joined: list[Part] = []
    for low, high, name in parts:
        if joined and joined[-1][2] == name:
            joined[-1] = joined[-1][0], high, name
        else:
            joined.append((low, high, name))
    return joined
