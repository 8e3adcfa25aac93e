# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules that can never match, because an earlier one takes all that they ask for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from .rules import ITSELF, MATCHES, SET, Ranges, Rule

NETWORKS, RANGES = ("source", "destination"), ("source_port", "destination_port")


def covered(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """Each rule that one single earlier rule covers, and that rule.

    What several earlier ones cover together, or the content of a set, is not looked into.
    """
    seen = _Seen()
    for rule in rules:
        earlier = next((other for other in seen.candidates(rule) if covers(other, rule)), None)
        if earlier:
            yield rule, earlier
        seen.add(rule)


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether `wide` matches whatever `narrow` matches."""
    if (narrow.own and not wide.own) or (narrow.forwarded and not wide.forwarded):
        return False
    return all(_within(key, getattr(narrow, key), wanted) for key, wanted in _asked(wide).items())


def _asked(rule: Rule) -> dict[str, Any]:
    """What it asks for; the router's own traffic is told by `own`."""
    told = {key: getattr(rule, key) for key in MATCHES if getattr(rule, key) not in (None, ())}
    return {key: wanted for key, wanted in told.items() if (key, wanted) != ("device", ITSELF)}


def _within(key: str, narrow: Any, wide: Any) -> bool:
    if narrow == wide:
        return True
    if key in NETWORKS and narrow and SET not in (narrow[0][0], wide[0][0]):
        return all(any(network in wide for network in _supernets(item)) for item in narrow)
    if key in RANGES and narrow:
        return all(_inside(item, wide) for item in narrow)
    if key == "mark" and narrow:
        return bool(narrow[1] & wide[1] == wide[1] and narrow[0] & wide[1] == wide[0])
    return False


def _inside(ports: tuple[int, int], wide: Ranges) -> bool:
    return any(low <= ports[0] and ports[1] <= high for low, high in wide)


@cache
def _supernets(network: str) -> tuple[str, ...]:
    """The network and all that contain it, but for the one that is everything."""
    parsed = ipaddress.IPv4Network(network)
    return tuple(str(parsed.supernet(new_prefix=length)) for length in range(1, parsed.prefixlen + 1))


class _Seen:
    """Earlier rules by the networks they ask for, so that a long list is not compared with itself rule by rule."""

    def __init__(self) -> None:
        self._by_network: dict[tuple[str, str], list[Rule]] = {}
        self._others: list[Rule] = []

    def add(self, rule: Rule) -> None:
        side = next((side for side in NETWORKS if getattr(rule, side)), None)
        if side is None:
            self._others.append(rule)
        for network in getattr(rule, side) if side else ():
            self._by_network.setdefault((side or "", network), []).append(rule)

    def candidates(self, rule: Rule) -> Iterator[Rule]:
        yield from self._others
        for side in NETWORKS:
            for item in getattr(rule, side)[:1]:
                for network in (item,) if item.startswith(SET) else _supernets(item):
                    yield from self._by_network.get((side, network), ())
