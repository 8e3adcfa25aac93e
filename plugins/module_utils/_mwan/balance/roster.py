# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the helper is told: the queues, and the links that take new connections of each. Pure.

    {"schema": 1, "mask": "0x3f00", "queues": [
        {"queue": 7710, "policy": "balanced", "links": [{"name": "isp_a", "mark": "0x100", "weight": 3}]}
    ]}

Every run writes it with the rest of what it sets, so that it is as the rules are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .chooser import Candidate

SCHEMA = 1
MOST_QUEUES = 1 << 16


@dataclass(frozen=True)
class Queue:
    """The queue of one policy."""

    policy: str
    links: tuple[Candidate, ...]


@dataclass(frozen=True)
class Roster:
    """`queues` by number; only the bits of `mask` are ours in a mark."""

    mask: int = 0
    queues: dict[int, Queue] = field(default_factory=dict)


def parse(text: str | None) -> Roster:
    """Without a text there is nothing to balance; raises ValueError for one that is not as above."""
    if text is None:
        return Roster()
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"not of schema {SCHEMA}")
    try:
        mask = int(data["mask"], 16)
        return Roster(mask, {_number(entry): _queue(entry, mask) for entry in data["queues"]})
    except (KeyError, TypeError) as exc:
        raise ValueError(f"lacks something: {exc}") from exc


def _number(entry: Any) -> int:
    number = int(entry["queue"])
    if not 0 <= number < MOST_QUEUES:
        raise ValueError(f"no queue has number {number}")
    return number


def _queue(entry: Any, mask: int) -> Queue:
    return Queue(str(entry["policy"]), tuple(_candidate(link, mask) for link in entry["links"]))


def _candidate(link: Any, mask: int) -> Candidate:
    found = Candidate(str(link["name"]), int(link["mark"], 16), int(link["weight"]))
    if found.mark & ~mask or not found.mark:
        raise ValueError(f"the mark of {found.name} is not one under the mask")
    if found.weight < 1:
        raise ValueError(f"the weight of {found.name} is none")
    return found
