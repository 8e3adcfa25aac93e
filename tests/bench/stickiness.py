# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Sticky clients by the thousand: what they take of memory and time, and whether they stay.

Memory is what the kernel's allocator gets back when the sets are emptied, while no connection is tracked any more. It
is shared with all that runs on the machine, so only what there are about as many of as clients is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from ..lab.engine import Engine
from ..lab.topology import three_links
from .chances import moved
from .figures import Load, Table, median_and_range, none
from .slabs import freed, read
from .spread import FLOWS, QUICK, Site, make_clients

ALGORITHM = "random"
WEIGHTS, OTHER_WEIGHTS = (5, 3, 2), (1, 1, 8)
SECONDS = 3600
# By firewall. The kernel of the lab has no ipsets of pairs.
SINGLE: dict[str, Any] = {"not sticky": 0, "by source": SECONDS}
WAYS = {
    "nftables": {**SINGLE, "by source and destination": {"timeout": SECONDS, "by": "source_destination"}},
    "iptables": SINGLE,
}
# Until the kernel has really freed what nobody refers to any more.
GRACE = 1.0
EMPTY_TABLE = """
for set in $(nft list sets inet | grep -o 'sticky-[a-z_-]*'); do nft flush set inet mwan $set; done
"""
EMPTY_IPSETS = """
from pyroute2 import IPSet
sets, sizes = IPSet(), {}
for item in sets.list():
    header = item.get_attr('IPSET_ATTR_DATA')
    if header:
        sizes[item.get_attr('IPSET_ATTR_SETNAME')] = header.get_attr('IPSET_ATTR_MEMSIZE')
for name in sizes:
    sets.flush(name)
print(sum(sizes.values()))
"""


def measure(quick: bool) -> list[Table]:
    number, rounds = (QUICK, 1) if quick else (FLOWS, 5)
    costs: list[list[str]] = []
    stays: list[list[str]] = []
    with Load() as load:
        for backend in WAYS:
            with three_links() as net:
                make_clients(net)
                with Engine(net, backend) as engine:
                    site = Site(net, engine, number)
                    costs += _costs(site, rounds)
                    stays.append([backend, *_stays(site)])
    return [_cost_table(costs, number, rounds, load), _stay_table(stays, number)]


def _costs(site: Site, rounds: int) -> list[list[str]]:
    ways = WAYS[site.engine.backend]
    first: dict[str, list[float]] = {name: [] for name in ways}
    again: dict[str, list[float]] = {name: [] for name in ways}
    octets: dict[str, list[float]] = {name: [] for name in ways}
    for _unused in range(rounds):
        for name, sticky in ways.items():
            site.spread(ALGORITHM, WEIGHTS, sticky=sticky)
            for spent in (first, again):
                site.connect()
                spent[name].append(site.spent)
            if sticky:
                octets[name].append(_emptied(site) / site.number)
    rows = []
    for name in ways:
        cells = [f"{median(spent[name]):.2f}" for spent in (first, again)]
        more = [added(spent[name], first["not sticky"]) if ways[name] else "" for spent in (first, again)]
        memory = f"{median(octets[name]):.0f}" if octets[name] else ""
        rows.append([site.engine.backend, name, *cells, *more, memory])
    return rows


def added(spent: list[float], base: list[float]) -> str:
    return median_and_range([mine - other for mine, other in zip(spent, base, strict=True)])


def _emptied(site: Site) -> int:
    """Octets that the allocator got back, of a table of nft, or what ipsets say they take."""
    router = site.net.router
    router.run("conntrack -F")
    if site.engine.backend == "iptables":
        return int(router.run([sys.executable, "-I", "-c", EMPTY_IPSETS]).stdout)
    time.sleep(GRACE)
    before = read()
    router.run(EMPTY_TABLE)
    time.sleep(GRACE)
    return freed(before, read(), site.number)


def _stays(site: Site) -> list[str]:
    """Who is elsewhere: at the next connection, after a reload with other weights, and when a link goes and comes."""
    gone = next(iter(site.net.uplinks))
    site.spread(ALGORITHM, WEIGHTS, sticky=SECONDS)
    before = dict(site.connect())
    again = dict(site.connect())
    site.spread(ALGORITHM, OTHER_WEIGHTS, sticky=SECONDS)
    reloaded = dict(site.connect())
    site.down(gone)
    during = dict(site.connect())
    site.down()
    after = dict(site.connect())
    others = sum(link != gone for link in before.values())
    return [
        elsewhere(before, again),
        elsewhere(before, reloaded),
        f"{moved(before, during, gone)} of {others}",
        elsewhere(during, after),
    ]


def elsewhere(before: Mapping[int, str], after: Mapping[int, str]) -> str:
    return f"{sum(after[client] != link for client, link in before.items())} of {len(before)}"


def _cost_table(rows: list[list[str]], number: int, rounds: int, load: Load) -> Table:
    columns = (
        *("firewall", "sticky", "first connection, us", "next connection, us"),
        *("first: added, us", "next: added, us", "octets a client"),
    )
    notes = [
        f"{number} clients with one UDP connection each, algorithm {ALGORITHM}, weights 5:3:2; {load.told()}.",
        "Microseconds of processor for all that a first packet passes, from opening its socket to the server; what"
        f" stickiness adds, as median (least to most) of {rounds} rounds.",
        "Octets: what the kernel's allocator got back when the sets were emptied; with iptables, what ipsets say of"
        " themselves.",
    ]
    return Table("Sticky clients", columns, rows, notes)


def _stay_table(rows: list[list[str]], number: int) -> Table:
    columns = (
        *("firewall", "elsewhere at the next connection", "after a reload with weights 1:1:8"),
        *("of other links, when a link is down", "when it is back, elsewhere than meanwhile"),
    )
    notes = [
        f"{number} clients, sticky by source; connections are forgotten in between, so that only the sets tell.",
        f"Elsewhere in all: {none(cell for row in rows for cell in row[1:])}.",
    ]
    return Table("Clients that moved", columns, rows, notes)
