# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""IPv4 networks by the ten thousand, as spans of numbers: the library's own objects take a hundred times as long."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# as ipaddress takes them: no leading zeros, no masks
TEXT = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})(?:/(\d|[12]\d|3[0-2]))?\Z")
BITS = 32

# first and last address
Span = tuple[int, int]


def span(text: str) -> Span | None:
    """The addresses of a network, or of one address; None for anything else, host bits among them."""
    match = TEXT.match(text)
    parts = [int(part) for part in match.groups()[:4]] if match else [256]
    if match is None or max(parts) > 255:
        return None
    low = parts[0] << 24 | parts[1] << 16 | parts[2] << 8 | parts[3]
    size = 1 << (BITS - int(match[5] or BITS))
    return None if low % size else (low, low + size - 1)


def address(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same addresses in as few spans as hold them, in order."""
    found: list[Span] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found


def written(spans: Iterable[Span]) -> Iterator[str]:
    """The fewest networks that cover the spans."""
    for first, last in spans:
        low = first
        while low <= last:
            # no larger than where it begins allows, and than what is left
            size = min(low & -low or 1 << BITS, 1 << ((last - low + 1).bit_length() - 1))
            yield f"{address(low)}/{BITS + 1 - size.bit_length()}"
            low += size


def collapsed(texts: Iterable[str]) -> tuple[str, ...]:
    """The shortest sorted list of networks that covers the same addresses; the texts are canonical ones."""
    return tuple(written(joined(found for found in map(span, texts) if found)))
