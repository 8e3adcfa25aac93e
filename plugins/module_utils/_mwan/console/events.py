# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The prober's events, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import words

FILE = "/run/mwan/events.jsonl"
FILES = (FILE + ".1", FILE)
LINK_WIDTH, CHANGE_WIDTH = 10, 19


def parse(lines: Iterable[str], link: str | None = None) -> Iterator[dict[str, Any]]:
    """The events in these lines, those of one link if it is named; a line cut short by a crash is left out."""
    found = (_event(line) for line in lines)
    return (event for event in found if event is not None and link in (None, event.get("link")))


def _event(line: str) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def moment(event: Mapping[str, Any]) -> float | None:
    """Seconds since the epoch."""
    return words.moment(event.get("time"))


def line(event: Mapping[str, Any]) -> str:
    """When, which link, what became of it, why, and how long it had been otherwise."""
    subject = event.get("link") or str(event.get("event") or "").replace("_", " ")
    parts = [words.local_time(moment(event)), str(subject).ljust(LINK_WIDTH), _change(event)]
    if event.get("reason"):
        parts.append(" ".join(str(event["reason"]).split()))
    if event.get("duration") is not None and event.get("before") not in (None, "unknown"):
        parts.append(f"({event['before']} for {words.duration(event['duration'])})")
    return "  ".join(part for part in parts if part).rstrip()


def _change(event: Mapping[str, Any]) -> str:
    before, after = event.get("before"), event.get("after")
    if before and after:
        return f"{before} -> {after}".ljust(CHANGE_WIDTH)
    return str(event.get("event", "")) if event.get("link") else ""
