# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sets that x_tables rules ask, as values, and their names. Pure; `ipsets.py` brings them into the kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .choices import Chooser, Classification

PREFIX = "mwan_"
LONGEST_NAME = 31  # IPSET_MAXNAMELEN, and a zero at its end
NETWORKS, SOURCES, PAIRS = "hash:net", "hash:ip", "hash:net,net"


@dataclass(frozen=True)
class Ipset:
    """A set that rules refer to by `name`.

    `networks` is None where elements come otherwise: `sticky` ones from packets, each with its own time to live; those
    that are not sticky from others.
    """

    name: str
    kind: str = NETWORKS
    networks: tuple[str, ...] | None = None
    sticky: bool = False

    @property
    def ours(self) -> bool:
        return self.sticky or self.networks is not None


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name of so many characters at most: of a longer one the end is a digest of all of it."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def network_set(name: str) -> str:
    return shortened(PREFIX + name)


def sticky_set(chooser: Chooser, member: str) -> Ipset:
    """A policy's other way to tell clients needs sets of another type, which are others."""
    alone = chooser.sticky_by == "source"
    name = f"{PREFIX}{chooser.name}{'.' if alone else ':'}{member}"
    return Ipset(shortened(name), SOURCES if alone else PAIRS, sticky=True)


def sets(classification: Classification) -> tuple[Ipset, ...]:
    """All sets that rules may name, declared ones first."""
    declared = [
        Ipset(network_set(item.name), NETWORKS, None if item.external else item.networks)
        for item in classification.sets
    ]
    clients = [sticky_set(chooser, name) for chooser in classification.sticky() for name, _mark in chooser.members]
    return (*declared, *clients)


def set_lines(items: Iterable[Ipset]) -> Iterator[str]:
    """As `ipset restore` takes them."""
    for item in items:
        yield f"create {item.name} {item.kind}" + (" timeout 0" if item.networks is None else "")
        yield from (f"add {item.name} {network}" for network in item.networks or ())
