# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the table that is live to another one, without a gap, and without losing what packets and others put into it.

A table that is deleted takes the clients of sticky policies, external sets and counters with it. So only its chains
are made anew, and of the rest what stays as it is stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .nftables_text import TABLE, Chain, block, table

OBJECT = re.compile(r'^\t((?:ct )?\w+) "?([^\s"]+)"? \{$(.*?)^\t\}$', re.MULTILINE | re.DOTALL)
# of the table itself; the kernel cannot wake one that is dormant and change its chains in one transaction
FLAGS = re.compile(r"^\tflags ", re.MULTILINE)
# deleted in this order: maps lead to chains, and chains use all the others
FIRST = ("map", "set", "chain")


class Contents(NamedTuple):
    """All of our table. Sets by name, with their declarations."""

    sets: dict[str, tuple[str, ...]]
    counters: tuple[str, ...]
    chains: tuple[Chain, ...]

    def text(self) -> str:
        sets = (block("set", name, lines) for name, lines in self.sets.items())
        counters = (block("counter", name, ()) for name in self.counters)
        chains = (block("chain", item.name, [item.hook] * bool(item.hook) + list(item.rules)) for item in self.chains)
        return table([*counters, *sets, *chains])


def transaction(wanted: Contents, listing: str) -> str:
    """What makes the table listed so the wanted one."""
    if FLAGS.search(listing):
        return f"add table {TABLE}\ndelete table {TABLE}\n{wanted.text()}"
    found = [(kind, name, _declared(body)) for kind, name, body in OBJECT.findall(listing)]
    kept = {(kind, name) for kind, name, declared in found if _stays(wanted, kind, name, declared)}
    gone = [(kind, name) for kind, name, _declared in found if (kind, name) not in kept]
    anew = wanted._replace(
        sets={name: lines for name, lines in wanted.sets.items() if ("set", name) not in kept},
        counters=tuple(name for name in wanted.counters if ("counter", name) not in kept),
    )
    order = {kind: number for number, kind in enumerate(FIRST)}
    deletions = sorted(gone, key=lambda item: order.get(item[0], len(order)))
    return "".join([f"add table {TABLE}\nflush table {TABLE}\n", *_deletions(deletions), anew.text()])


def _deletions(objects: list[tuple[str, str]]) -> Iterator[str]:
    for kind, name in objects:
        if kind == "chain":  # as with the table: it may have gone meanwhile
            yield f"add chain {TABLE} {name}\n"
        yield f"delete {kind} {TABLE} {name}\n"


def _stays(wanted: Contents, kind: str, name: str, declared: frozenset[str]) -> bool:
    if kind == "set":
        return name in wanted.sets and declared == _declared("\n".join(wanted.sets[name]))
    return kind == "counter" and name in wanted.counters


def _declared(body: str) -> frozenset[str]:
    """The declarations in any order; tools differ in that, and in the order of flags."""
    lines = (line.strip() for line in body.splitlines())
    told = (line for line in lines if line.startswith(("type ", "size ", "flags ", "timeout ", "auto-merge")))
    return frozenset(" ".join(sorted(line.replace(",", " ").split())) for line in told)
