# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients that stay on their link, in the language of nft: a set for each policy and link, filled as packets leave.

The names have a hyphen, which those of others cannot have. A connection that is to be remembered carries the mark of
its policy until its first packet leaves, and with it the client comes into the set of the link that it took, and out of
the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from .choices import Chooser
from .model import Firewall
from .nftables_text import Chain, elements, written

# elements; a few hundred bytes each, allocated as they come
SIZE = 131072
SOURCES = "ip saddr"
# what it was begun to: destination NAT may come between
PAIRS = "ip saddr . ct original ip daddr"


def client(chooser: Chooser) -> str:
    return PAIRS if chooser.sticky_by == "source_destination" else SOURCES


def _name(chooser: Chooser, link: str) -> str:
    return f"sticky-{chooser.name}-{link}"


def sets(firewall: Firewall) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each set's name and declaration. The time is that of each element, so a new one needs no new set."""
    for chooser in firewall.classification.sticky():
        kind = " . ".join("ipv4_addr" for _field in client(chooser).split(" . "))
        for link, _mark in chooser.members:
            yield _name(chooser, link), (f"type {kind}", f"size {SIZE}", "flags dynamic,timeout")


def lookups(chooser: Chooser) -> Iterator[tuple[str, int]]:
    """What tells the clients of each link that serves now, and its mark."""
    if chooser.sticky:
        for way in chooser.ways:
            yield f"{client(chooser)} @{_name(chooser, way.name)}", way.mark


def saves(firewall: Firewall) -> Iterator[tuple[str, str]]:
    """Where new connections go on their way out that are to be remembered, by connection mark."""
    for chooser in firewall.classification.sticky():
        yield f"0x{chooser.mark:08x}", f"goto stick-{chooser.name}"


def chains(firewall: Firewall) -> Iterator[Chain]:
    for chooser in firewall.classification.sticky():
        places = elements((f"0x{mark:08x}", f"goto stick-{chooser.name}-{link}") for link, mark in chooser.members)
        forgotten = written("ct", 0, firewall.mask)
        yield Chain(
            f"stick-{chooser.name}", (forgotten, "jump save", f"ct mark & 0x{firewall.mask:08x} vmap {{ {places} }}")
        )
        for link, _mark in chooser.members:
            others = (_name(chooser, other) for other, _mark in chooser.members if other != link)
            gone = [f"delete @{other} {{ {client(chooser)} }}" for other in others]
            yield Chain(f"stick-{chooser.name}-{link}", (_put(chooser, link), *gone))


def refreshing(firewall: Firewall, mark: int) -> Iterator[str]:
    """The rules for packets of connections pinned to a link: who talks, stays."""
    for chooser in firewall.classification.sticky():
        for link, own in chooser.members:
            if own == mark:
                known = f"{client(chooser)} @{_name(chooser, link)}"
                yield f"ct direction original {known} {_put(chooser, link)}"


def _put(chooser: Chooser, link: str) -> str:
    return f"update @{_name(chooser, link)} {{ {client(chooser)} timeout {chooser.sticky}s }}"
