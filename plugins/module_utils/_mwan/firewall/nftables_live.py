# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the table that is live to another one, without a gap, and without losing what packets and others put into it.

A table that is deleted takes the clients of sticky policies, external sets and counters with it. So only its chains
are made anew, and of the rest what stays as it is stays.

In the instant in which rules take the place of others, lookups fail on both sides. Packets on their way finish the
former rules, but sets are asked for their elements of the present (nft_do_chain, nft_set_elem_active); and what comes
meets the new rules, but sets of networks or ranges together with others publish their elements a moment later
(nf_tables_commit, nft_pipapo_commit). So new chains come beside the former ones, then packets are led to them, and the
former go milliseconds later. Each chain has the number of its load after its name; only what is hooked has none: it
looks up nothing, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .nftables_text import TABLE, Chain, block, table

OBJECT = re.compile(r'^\t((?:ct )?\w+) "?([^\s"]+)"? \{$(.*?)^\t\}$', re.MULTILINE | re.DOTALL)
# of the table itself; the kernel cannot wake one that is dormant and change its chains in one transaction
FLAGS = re.compile(r"^\tflags ", re.MULTILINE)
HOOKED = re.compile(r"^\t\ttype \w+ hook ", re.MULTILINE)
# not part of another name, as of a set for a link that is named so, nor in quotes
LEADS = re.compile(r'("[^"]*")|(?<![\w-])(jump|goto) ([\w-]+)')
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

    def numbered(self, number: int) -> Contents:
        """With the chains as they are named in the kernel, what is hooked first."""
        hooked = (Chain(item.name, (f"goto {item.name}.{number}",), item.hook) for item in self.chains if item.hook)
        return self._replace(chains=(*hooked, *(_numbered(item, number) for item in self.chains)))


def _numbered(chain: Chain, number: int) -> Chain:
    rules = (LEADS.sub(lambda found: found[1] or f"{found[0]}.{number}", rule) for rule in chain.rules)
    return Chain(f"{chain.name}.{number}", tuple(rules))


class _Object(NamedTuple):
    kind: str
    name: str
    body: str


def at_once(wanted: Contents, listing: str) -> str:
    """The one transaction that makes the table listed so the wanted one, whatever it is like."""
    if FLAGS.search(listing):
        return f"add table {TABLE}\ndelete table {TABLE}\n{wanted.numbered(1).text()}"
    anew, gone = _compared(wanted, listing)
    return "".join([f"add table {TABLE}\n", *_deletions(gone), anew.text()])


def transactions(wanted: Contents, listing: str) -> tuple[str, ...]:
    """What does the same one after the other, so that no lookup fails.

    The kernel refuses what is in the way: a set of the same name and another type, or a chain that is hooked elsewhere.
    """
    anew, gone = _compared(wanted, listing)
    hooked = [item for item in gone if HOOKED.search(item.body)]
    if FLAGS.search(listing) or not hooked:
        return (at_once(wanted, listing),)
    hooks = tuple(item for item in anew.chains if item.hook)
    names = {item.name for item in hooks}
    prepared = anew._replace(chains=tuple(item for item in anew.chains if not item.hook))
    switch = [
        *(f"flush chain {TABLE} {item.name}\n" for item in hooked if item.name in names),
        *_deletions([item for item in hooked if item.name not in names]),
        Contents({}, (), hooks).text(),
    ]
    rest = "".join(_deletions([item for item in gone if item not in hooked]))
    return (prepared.text(), "".join(switch), *([rest] if rest else []))


def _compared(wanted: Contents, listing: str) -> tuple[Contents, list[_Object]]:
    """What has to come, and what has to go."""
    found = [_Object(*match) for match in OBJECT.findall(listing)]
    stay = {(item.kind, item.name) for item in found if _stays(wanted, item)}
    anew = wanted.numbered(_unused(found))._replace(
        sets={name: lines for name, lines in wanted.sets.items() if ("set", name) not in stay},
        counters=tuple(name for name in wanted.counters if ("counter", name) not in stay),
    )
    return anew, [item for item in found if (item.kind, item.name) not in stay]


def _unused(found: Iterable[_Object]) -> int:
    names = {item.name for item in found}
    number = 1
    while any(name.endswith(f".{number}") for name in names):
        number += 1
    return number


def _deletions(objects: Iterable[_Object]) -> Iterator[str]:
    chains = [item.name for item in objects if item.kind == "chain"]
    # as with the table: one may have gone meanwhile
    yield from (f"add chain {TABLE} {name}\nflush chain {TABLE} {name}\n" for name in chains)
    order = {kind: number for number, kind in enumerate(FIRST)}
    for item in sorted(objects, key=lambda item: order.get(item.kind, len(order))):
        yield f"delete {item.kind} {TABLE} {item.name}\n"


def _stays(wanted: Contents, item: _Object) -> bool:
    if item.kind == "set":
        return item.name in wanted.sets and _declared(item.body) == _declared("\n".join(wanted.sets[item.name]))
    return item.kind == "counter" and item.name in wanted.counters


def _declared(body: str) -> frozenset[str]:
    """The declarations in any order; tools differ in that, and in the order of flags."""
    lines = (line.strip() for line in body.splitlines())
    told = (line for line in lines if line.startswith(("type ", "size ", "flags ", "timeout ", "auto-merge")))
    return frozenset(" ".join(sorted(line.replace(",", " ").split())) for line in told)
