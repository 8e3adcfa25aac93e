# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What each algorithm costs a new connection and the packets after it, over two links, beside plain routing.

The router is the same one throughout; its policy changes from round to round.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from .effort import KINDS, NEWCOMERS, Effort, cell, measured
from .figures import Load, Table
from .forwarding import FLOWS, MASQUERADE, make_ours, make_plain

LINKS = 2
STICKY = 600
# What is measured -> of the policy.
POLICIES: dict[str, dict[str, Any]] = {
    "multipath": {"algorithm": "multipath"},
    "random": {"algorithm": "random"},
    "round_robin": {"algorithm": "round_robin"},
    "source_hash": {"algorithm": "source_hash"},
    "source_destination_hash": {"algorithm": "source_destination_hash"},
    "multipath, sticky": {"algorithm": "multipath", "sticky": STICKY},
    "random, sticky": {"algorithm": "random", "sticky": STICKY},
    "per_packet": {"algorithm": "per_packet"},
}


def measure(quick: bool) -> list[Table]:
    number, seconds = (1, 0.1) if quick else (5, 0.15)
    with ExitStack() as stack, Load() as load:
        plain = {name: stack.enter_context(measured(f"plain-{name}", 1)) for name in MASQUERADE}
        ours = {name: stack.enter_context(measured(f"mwan-{name}", LINKS)) for name in MASQUERADE}
        for backend, effort in plain.items():
            make_plain(effort.side.router, backend)
        spent = {backend: _by_policy(backend, plain[backend], ours[backend], number, seconds) for backend in MASQUERADE}
    rows = []
    for backend, found in spent.items():
        base = plain[backend].spent
        rows.append([backend, "plain, one masquerade", *(cell(base, base, kind) for kind in KINDS)])
        rows += [[backend, name, *(cell(costs, base, kind) for kind in KINDS)] for name, costs in found.items()]
    return [_table(rows, number, load)]


def _by_policy(
    backend: str, plain: Effort, ours: Effort, number: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Every round measures plain routing once, and each policy; what comes before the first is not counted."""
    spent: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in POLICIES}
    for turn in range(number + 1):
        plain.measure(seconds)
        for name, policy in POLICIES.items():
            use(ours, backend, policy)
            ours.measure(seconds)
            if turn:
                for kind in KINDS:
                    spent[name][kind].append(ours.spent[kind][-1])
        if not turn:
            plain.spent.clear()
    return spent


def use(effort: Effort, backend: str, policy: dict[str, Any]) -> None:
    members = [{"link": f"link{number}"} for number in range(1, LINKS + 1)]
    policies = [{"name": "balanced", "members": members, **policy}]
    make_ours(effort.side.router, backend, LINKS, mwan_policies=policies, mwan_classify="marks")


def _table(rows: list[list[str]], number: int, load: Load) -> Table:
    notes = [
        f"Microseconds of processor, sender included, and in brackets the work done in a second of processor relative"
        f" to plain routing with the same firewall; medians of {number} rounds; {load.told()}.",
        f"New connection: the first datagram of {NEWCOMERS} UDP flows a round, all of one client, which a sticky policy"
        f" knows from the second on. Packets: {FLOWS} established UDP flows.",
    ]
    return Table("Cost of algorithms", ("firewall", "algorithm", *(f"{kind}, us" for kind in KINDS)), rows, notes)
