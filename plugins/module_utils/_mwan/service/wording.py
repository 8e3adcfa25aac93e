# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people and programs are told of a change: one record for each, and a line in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..watch.judge import Change

# syslog(3)
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
LEVELS = {"down": WARNING, "suspect": WARNING, "degraded": WARNING}


def iso(wall: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(wall, timezone.utc).isoformat(timespec="milliseconds")


def record(event: str, wall: float, **fields: Any) -> dict[str, Any]:
    """An event; what does not apply is None. `duration`: seconds in the former state, or of the work that failed."""
    known = ("link", "before", "after", "reason", "evidence", "duration")
    return {"time": iso(wall), "event": event, **dict.fromkeys(known), **fields}


def change_record(change: Change, wall: float) -> dict[str, Any]:
    return record(
        "state",
        wall,
        link=change.link,
        before=change.before,
        after=change.after,
        reason=change.reason,
        evidence=dict(change.evidence),
        duration=change.evidence.get("in_state_for"),
    )


def line(event: Mapping[str, Any]) -> str:
    """The event in words."""
    if event["event"] == "state":
        figures = _figures(event["evidence"] or {}, event["before"], event["duration"])
        return f"{event['link']}: {event['before']} -> {event['after']}: {event['reason']}{figures}"
    subject = f"{event['link']}: " if event["link"] else ""
    return f"{subject}{event['event'].replace('_', ' ')}{': ' if event['reason'] else ''}{event['reason'] or ''}"


def level(event: Mapping[str, Any]) -> int:
    if event["event"].endswith("failed"):
        return ERROR
    return LEVELS.get(event["after"] or "", NOTICE)


def _figures(evidence: Mapping[str, Any], before: str, duration: float | None) -> str:
    parts = []
    if evidence.get("loss") is not None:
        parts.append(f"loss {evidence['loss']:.0%}")
    if evidence.get("rtt") is not None:
        parts.append(f"rtt {evidence['rtt'] * 1000:.0f} ms")
    if duration is not None:
        parts.append(f"{before} for {span(duration)}")
    return f" ({', '.join(parts)})" if parts else ""


def span(seconds: float) -> str:
    """A duration as people say it: its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])
