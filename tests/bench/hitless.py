# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Packets lost while the configuration changes under a flood, beside the same flood while nothing changes.

The changes are made by the modules, as a playbook makes them. Flows that were pinned to a link which is then taken
away are counted apart: their connection cannot survive, everything else must.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..lab.ansible import run_module
from ..lab.host import LabError
from ..lab.topology import Topology, many_links
from ..lab.traffic import FloodResult, UdpFlood
from .figures import Table

PPS = 20_000
FLOWS = 60
WEIGHT_CHANGES = 10
BACKENDS = ("nftables", "iptables")
LINKS = 3
MODULES = 5  # that run when a link comes or goes


@dataclass(frozen=True)
class Trial:
    what: str
    backend: str
    changes: int
    flood: FloodResult
    removed: str | None  # source address of the link that was taken away

    def row(self) -> list[str]:
        flood = self.flood
        there = [number for number in range(len(flood.sent)) if self.removed not in flood.sources[number]]
        stayed = sum(flood.sent[number] - flood.received[number] for number in there)
        moved = f"{flood.lost - stayed} of {len(flood.sent) - len(there)} flows" if self.removed else ""
        rate = f"{sum(flood.sent) / flood.seconds:.0f}"
        numbers = [str(self.changes), str(sum(flood.sent)), rate, str(stayed), moved, str(flood.dropped_by_machine)]
        return [self.backend, self.what, *numbers]


def measure(quick: bool) -> list[Table]:
    trials = [trial for backend in BACKENDS for trial in _trials(backend, 2 if quick else WEIGHT_CHANGES)]
    columns = (
        "backend",
        "meanwhile",
        "changes",
        "packets",
        "packets/s",
        "lost",
        "lost of the link removed",
        "by queues",
    )
    lost = sum(int(trial.row()[5]) for trial in trials)
    notes = [
        f"Asked for {PPS} packets a second in {FLOWS} flows; the rate is what the sender reached while it shared the"
        " processors with the modules.",
        "'by queues' are packets dropped by full queues of this machine; 'nothing' is what the harness itself loses.",
        f"Lost in all of flows that should not lose any: {lost}, aim 0: {'met' if lost == 0 else 'missed'}.",
    ]
    return [Table("Packets lost while the configuration changes", columns, [trial.row() for trial in trials], notes)]


def _trials(backend: str, changes: int) -> list[Trial]:
    with many_links(LINKS) as topology:
        router = _Router(topology, backend)
        router.converge(LINKS - 1)

        def weights() -> None:
            for number in range(changes):
                router.policy(LINKS - 1, first_weight=2 + number % 5)

        gone = topology.uplinks[f"link{LINKS}"].source
        seconds = _duration(lambda: router.policy(LINKS - 1, first_weight=9))
        steps: list[tuple[str, Callable[[], None], int, int, str | None]] = [
            ("nothing", lambda: time.sleep(seconds * changes), 0, changes, None),
            ("weights change", weights, changes, changes, None),
            ("a link is added", lambda: router.converge(LINKS), 1, MODULES, None),
            ("a link is removed", lambda: router.converge(LINKS - 1), 1, MODULES, gone),
        ]
        return [
            Trial(what, backend, made, _under_flood(topology, step, seconds * modules), removed)
            for what, step, made, modules, removed in steps
        ]


def _duration(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _under_flood(topology: Topology, step: Callable[[], None], expected: float) -> FloodResult:
    """The flood begins before the change and outlasts it; a flood that was over too early would prove nothing."""
    seconds = 2.0 + 4.0 * expected  # the flood takes processors from the modules
    flood = UdpFlood(topology.client, topology.server, pps=PPS, seconds=seconds, flows=FLOWS)
    began = time.monotonic()
    time.sleep(0.5)
    step()
    taken = time.monotonic() - began
    result = flood.wait()
    if result.seconds < taken:
        raise LabError(f"the flood lasted {result.seconds:.1f} s and the changes {taken:.1f} s: nothing was measured")
    return result


class _Router:
    """The tasks of the role, in its order."""

    def __init__(self, topology: Topology, backend: str) -> None:
        self.topology = topology
        self.settings = {"firewall_backend": backend}

    def module(self, name: str, **arguments: Any) -> None:
        result = run_module(self.topology, name, {**arguments, **self.settings}, diff=False)
        if result.get("failed"):
            raise LabError(f"{name}: {result}")

    def converge(self, links: int) -> None:
        variables = self.topology.variables
        listed, snat = variables["mwan_links"][:links], variables["mwan_snat"][:links]
        self.module("mwan_link", links=listed)
        self.module("mwan_snat", snat=snat)
        self.policy(links)
        self.module("mwan_snat", snat=snat, purge=True)
        self.module("mwan_link", links=listed, purge=True)

    def policy(self, links: int, first_weight: int = 1) -> None:
        members = [{"link": link["name"]} for link in self.topology.variables["mwan_links"][:links]]
        members[0]["weight"] = first_weight
        self.module("mwan_policy", policies=[{"name": "balanced", "members": members}], default_policy="balanced")
