# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures as people read them."""

from __future__ import annotations

from datetime import datetime

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
NOTHING = "-"


def duration(seconds: float | None) -> str:
    """The two largest units: "3 d 4 h", "2 min 5 s"; tenths below ten seconds of a second."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s".replace(".0 ", " ")
    left = int(seconds)
    parts: list[str] = []
    for unit, size in UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts)


def octets(number: int | None) -> str:
    """In powers of 1000, as link rates are told."""
    if number is None:
        return NOTHING
    if number < 1000:
        return f"{number} B"
    size, units = number / 1000, ["kB", "MB", "GB", "TB", "PB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{_short(size)} {units[0]}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def percent(part: float | None) -> str:
    """A part of 1; what is there and small is not told as nothing."""
    if part is None:
        return NOTHING
    if 0 < part < 0.01:
        return f"{100 * part:.1f} %" if part >= 0.0005 else "< 0.1 %"
    return f"{100 * part:.0f} %"


def milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{_short(1000 * seconds)} ms"


def moment(value: object) -> float | None:
    """Seconds since the epoch, from themselves or from a time as ISO 8601 writes it; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def local_time(seconds: float | None) -> str:
    return NOTHING if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def listed(items: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)
