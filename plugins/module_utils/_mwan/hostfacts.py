# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What rules name that only the router knows: accounts, control groups, files of networks, the time zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .rules import AddressSet, Rule


@dataclass(frozen=True)
class Wanted:
    """The names to look up."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    cgroups: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    time: bool = False

    @classmethod
    def of(cls, rules: Iterable[Rule], sets: Iterable[AddressSet]) -> Wanted:
        listed = list(rules)
        return cls(
            frozenset(rule.user for rule in listed if rule.user),
            frozenset(rule.group for rule in listed if rule.group),
            frozenset(rule.cgroup for rule in listed if rule.cgroup),
            frozenset(path for item in sets for path in item.files),
            any(rule.time for rule in listed),
        )

    def __bool__(self) -> bool:
        return self != Wanted()


@dataclass(frozen=True)
class HostFacts:
    """What they are; None is what does not exist. `files` are texts, `ahead` the minutes that local time is of UTC.

    `hidden` are the files that the prober, which is another user, cannot read.
    """

    users: Mapping[str, int | None] = field(default_factory=dict)
    groups: Mapping[str, int | None] = field(default_factory=dict)
    cgroups: Mapping[str, int | None] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    ahead: int = 0
