# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How each algorithm spreads new connections over links, and whose link changes when another one goes and comes back.

A connection is one UDP flow of a client of its own, so that a hash has as many keys as there are connections. The
server tells by the source address which link each took, in the order in which they came.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..lab.balance import members
from ..lab.engine import Engine
from ..lab.host import LabError
from ..lab.topology import Topology, three_links
from ..lab.traffic import Helper
from .chances import change_cells, share_cells
from .figures import Load, Table, none

FLOWS_SCRIPT = str(Path(__file__).with_name("flows.py"))
BACKENDS = ("nftables", "iptables")
HASHES = ("source_hash", "source_destination_hash")
ALGORITHMS = ("multipath", "random", "round_robin", *HASHES)
WEIGHTS = ((1, 1), (3, 1), (5, 3, 2))
FLOWS, QUICK = 10_000, 2_000
CLIENTS = "10.0.0.0/16"
PORT = 9
DESTINATIONS = [f"7.7.7.{number}" for number in range(1, 255)]
# After every 1000 flows, so that no queue of this machine is ever full.
PAUSE = 0.001
LONGEST = 60.0

# (number of the client, link), in order of arrival
Arrivals = list[tuple[int, str]]


def make_clients(net: Topology) -> None:
    """Let the client have any address of CLIENTS, and the router translate it."""
    net.client.ip(f"route add local {CLIENTS} dev lo")
    net.router.ip(f"route add {CLIENTS} via {net.client_addresses[0]}")
    net.variables["mwan_snat"] = [{"link": uplink.name, "to": uplink.address} for uplink in net.uplinks.values()]


class Site:
    """A router under management with many clients."""

    def __init__(self, net: Topology, engine: Engine, number: int) -> None:
        self.net, self.engine, self.number = net, engine, number
        self.links = {source: name for name, source in net.sources.items()}
        # microseconds of processor for each new connection of the last connect(), with all that it passes
        self.spent = 0.0

    def spread(self, algorithm: str, weights: Sequence[int], **more: Any) -> None:
        listed = members(*zip(self.net.uplinks, weights, strict=False))
        policy = {"name": "balanced", "algorithm": algorithm, "members": listed, **more}
        self.engine.apply(mwan_policies=[policy], mwan_classify="marks")

    def down(self, *names: str) -> None:
        """As the prober says it."""
        health = {"links": {name: {"state": "down"} for name in names}}
        self.net.router.run(["sh", "-c", "mkdir -p /run/mwan && cat >/run/mwan/health.json"], input=json.dumps(health))
        self.engine.apply()

    def connect(self) -> Arrivals:
        """One new connection from each client."""
        self.net.router.run("conntrack -F")
        job = {"flows": self.number, "destinations": DESTINATIONS, "port": PORT, "pause": PAUSE}
        with Helper(self.net.server, FLOWS_SCRIPT, "receive", json.dumps({"port": PORT, "limit": LONGEST})) as server:
            sender = self.net.client.helper(FLOWS_SCRIPT, "send", json.dumps(job))
            said, _unused = sender.communicate(timeout=LONGEST)
            if sender.returncode:
                raise LabError(f"the sender failed: {said}")
            came = json.loads(server.end())
        self.spent = 1e6 * json.loads(said)["cpu"] / self.number
        if len(came) != self.number:
            raise LabError(f"{len(came)} of {self.number} connections arrived")
        return [(number, self.links[source]) for number, source in came]


def measure(quick: bool) -> list[Table]:
    number = QUICK if quick else FLOWS
    shares: list[list[str]] = []
    changes: list[list[str]] = []
    with Load() as load:
        for backend in BACKENDS:
            with three_links() as net:
                make_clients(net)
                with Engine(net, backend) as engine:
                    site = Site(net, engine, number)
                    shares += _shares(site)
                    changes += _changes(site)
    return [_share_table(shares, number, load), _change_table(changes, number)]


def _shares(site: Site) -> list[list[str]]:
    rows = []
    for algorithm in ALGORITHMS:
        for weights in WEIGHTS:
            site.spread(algorithm, weights)
            came = [link for _client, link in site.connect()]
            rows.append([site.engine.backend, algorithm, *share_cells(came, list(site.net.uplinks), weights)])
    return rows


def _share_table(rows: list[list[str]], number: int, load: Load) -> Table:
    unlikely = sum(float(row[-2]) < 0.01 for row in rows)
    notes = [
        f"{number} new connections each, every one from a client of its own; {load.told()}.",
        "p: how often a fair draw is at least that far from the weights. round_robin does not draw, so it is too near"
        " (p 1) by intention; a hash deals each client once and for all.",
        "Longest run: connections in a row on one link, in the order in which they came to the server.",
        f"Rows with p below 0.01: {unlikely} of {len(rows)}; one in a hundred is to be expected.",
    ]
    columns = ("backend", "algorithm", "weights", "observed", "chi-squared", "p", "longest run")
    return Table("Distribution", columns, rows, notes)


def _changes(site: Site) -> list[list[str]]:
    """A link goes and comes back; a hash is to move nobody else, and multipath is there to compare."""
    rows = []
    gone = next(iter(site.net.uplinks))
    for algorithm in ("multipath", *HASHES):
        site.spread(algorithm, WEIGHTS[-1])
        before = dict(site.connect())
        site.down(gone)
        during = dict(site.connect())
        site.down()
        after = dict(site.connect())
        rows.append([site.engine.backend, algorithm, *change_cells(before, during, after, gone)])
    return rows


def _change_table(rows: list[list[str]], number: int) -> Table:
    notes = [
        f"{number} clients over three links of weights 5:3:2, the first of which goes down and comes back; each client"
        " connects before, meanwhile and after, with the same ports, and the router remembers no connection.",
        "multipath hashes ports too and deals anew whenever its route changes; open connections are kept by their pin.",
        f"Hashes, clients of others that moved: {none(row[4] for row in rows if row[1] in HASHES)}.",
        f"Hashes, elsewhere in the end: {none(row[6] for row in rows if row[1] in HASHES)}.",
    ]
    columns = (
        "backend",
        "algorithm",
        "clients of the link that goes",
        "taken by the other two",
        "clients of the other two that moved",
        "came back",
        "elsewhere than at first, in the end",
    )
    return Table("Who moves when a link goes down", columns, rows, notes)
