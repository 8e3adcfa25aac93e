# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The words of nft that all parts of our table are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

TABLE = "inet mwan"
INDENT = "    "
# the table is of family inet, and nothing of ours is for IPv6
ONLY_IPV4 = "meta nfproto != ipv4 return"
# begins the names of counters, and of chains that count: the name of their rule follows
COUNTER = "rule_"
# begins the names of sets that others fill: alone, these may be words of nft ("log", "ip"), which name nothing
SET = "set_"


class Means(NamedTuple):
    """What depends on the host: whether its kernel tells what is, or was, encrypted by it, and where control groups of
    version 2 are below /sys/fs/cgroup, in which nft looks for them."""

    ipsec: bool = True
    cgroups: str = ""


USUAL = Means()


class Chain(NamedTuple):
    """`hook` is empty where other chains lead to it."""

    name: str
    rules: tuple[str, ...]
    hook: str = ""


def table(objects: Iterable[str]) -> str:
    return "table {} {{\n{}}}\n".format(TABLE, "\n".join(objects))


def block(kind: str, name: str, lines: Iterable[str]) -> str:
    """An object of the table; an end on a line with a statement would need a semicolon."""
    text = "".join(f"{INDENT}{INDENT}{line}\n" for line in lines)
    return f"{INDENT}{kind} {name} {{\n{text}{INDENT}}}\n"


def elements(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join("{} : {}".format(*pair) for pair in pairs)


def written(which: str, mark: int, mask: int) -> str:
    """The statement that sets our bits of a mark ("meta", "ct"); nft takes no expression of two marks, so constants."""
    return f"{which} mark set {which} mark & 0x{0xFFFFFFFF & ~mask:08x} | 0x{mark:08x}"
