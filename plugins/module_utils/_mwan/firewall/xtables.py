# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rule of x_tables as a value, and the matches that many rules share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extension:
    """A match or a target with its options.

    A value that starts with `!` is inverted, an empty one is a bare flag, one with spaces several words, unless it is
    in double quotes.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of one of our chains; a device that starts with `!` is any other.

    `goto`: the end of the chain that it leads to leads on to where this chain was called from.
    """

    chain: str
    target: Extension
    matches: tuple[Extension, ...] = ()
    protocol: str | None = None
    source: str | None = None
    destination: str | None = None
    in_device: str | None = None
    out_device: str | None = None
    goto: bool = False


def set_connmark(mark: int, mask: int) -> Extension:
    return Extension("CONNMARK", (("set-xmark", f"0x{mark:x}/0x{mask:x}"),))


def connmark(mark: int, mask: int, invert: bool = False) -> Extension:
    return Extension("connmark", (("mark", f"{'!' if invert else ''}0x{mark:x}/0x{mask:x}"),))
