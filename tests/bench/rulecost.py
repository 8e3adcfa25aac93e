# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What rules cost: as policy routing, as marks of the firewall, and as both, from one of them to a thousand.

A packet of the benchmark matches no rule and goes to the default policy, a multipath route of two links: the dearest
case for whatever looks at one rule after the other. Beside it, the same packets through plain routing and one
masquerade rule.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ..lab.host import LabError
from .effort import DOWN, NEW, NEWCOMERS, OWN, UP, Effort, cell, measured, rounds
from .figures import Load, Table, median_and_range, milliseconds, ratios
from .forwarding import FLOWS, MASQUERADE, make_ours, make_plain
from .rulesets import alternating, mixed, paired, sources

BACKENDS = tuple(MASQUERADE)
KINDS = (NEW, OWN, UP, DOWN)
LINKS = 2
LAN_DEVICE = "lan0"
SIZES = (1, 10, 100, 1000)
MIXED = 500
UNCHECKED = ", src_valid_mark 0"
MAKERS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "routing": paired,
    "marks": lambda number: sources(number, LAN_DEVICE),
    "both": paired,
    "routing, mixed": mixed,
    "marks, mixed": lambda number: mixed(number, LAN_DEVICE),
    "marks, alternating": lambda number: alternating(number, LAN_DEVICE),
}


@dataclass(frozen=True)
class Case:
    """A way to tell connections apart, and by how many rules.

    `checked`: whether marks count when the kernel looks up where the source of a packet is (src_valid_mark).
    """

    backend: str
    way: str
    number: int
    checked: bool = True

    @property
    def variables(self) -> dict[str, Any]:
        by_routing = self.way.startswith("routing")
        return {"mwan_rules": MAKERS[self.way](self.number), "mwan_classify": "routing" if by_routing else "marks"}

    @property
    def label(self) -> str:
        return self.way + ("" if self.checked else UNCHECKED)


def cases(quick: bool) -> list[Case]:
    """Policy routing is the same under either firewall, so it is asked in full with one of them."""
    sizes = SIZES[::3] if quick else SIZES
    found = [Case("nftables", "routing", number) for number in sizes]
    found += [Case(backend, "marks", number) for backend in BACKENDS for number in sizes]
    for backend in BACKENDS:
        found += [Case(backend, "both", sizes[-1])]
        found += [Case(backend, f"marks, {order}", MIXED) for order in ("mixed", "alternating")]
    found += [Case("nftables", "routing, mixed", MIXED), Case("iptables", "routing", sizes[-1])]
    return found + [Case("nftables", way, sizes[-1], checked=False) for way in ("routing", "marks", "both")]


@dataclass
class Loaded:
    """A router with its rules: what packets cost, and seconds of processor to make it so, and to see that it is."""

    case: Case
    effort: Effort
    first: float
    again: float


def measure(quick: bool) -> list[Table]:
    number, seconds = (2, 0.1) if quick else (4, 0.15)
    with ExitStack() as stack, Load() as load:
        plain = {backend: stack.enter_context(measured(f"plain-{backend}", 1)) for backend in BACKENDS}
        for backend, effort in plain.items():
            make_plain(effort.side.router, backend)
        loaded = [_loaded(stack, case) for case in cases(quick)]
        rounds([*plain.values(), *(item.effort for item in loaded)], number, seconds, KINDS)
    return [_table(plain, loaded, number, load), _loading(loaded)]


def _loaded(stack: ExitStack, case: Case) -> Loaded:
    effort = stack.enter_context(measured(f"rules-{case.backend}-{case.number}", LINKS))
    router = effort.side.router
    router.sysctl("net.ipv4.conf.all.rp_filter", 2)
    router.sysctl("net.ipv4.conf.all.src_valid_mark", int(case.checked))
    first, again = (make_ours(router, case.backend, LINKS, **case.variables) for _unused in range(2))
    if again["actions"]:
        raise LabError(f"{case}: the second run changed something: {again['actions']}")
    return Loaded(case, effort, first["cpu"], again["cpu"])


def _table(plain: dict[str, Effort], loaded: list[Loaded], number: int, load: Load) -> Table:
    rows = []
    for backend, effort in plain.items():
        rows.append(
            [backend, "plain, one masquerade", "0", *(cell(effort.spent, effort.spent, kind) for kind in KINDS)]
        )
    for item in loaded:
        base, case = plain[item.case.backend].spent, item.case
        cells = [cell(item.effort.spent, base, kind) for kind in KINDS]
        rows.append([case.backend, case.label, str(case.number), *cells])
    notes = [
        f"Microseconds of processor, sender included, and in brackets the work done in a second of processor relative"
        f" to plain routing with the same firewall; medians of {number} rounds in which all take turns; {load.told()}.",
        f"New connection: the first datagram of {NEWCOMERS} UDP flows a round, forwarded; own connection: the same"
        f" of the router itself. Packets: {FLOWS} established UDP flows.",
        "No packet matches a rule. rp_filter is loose throughout, except with plain routing.",
        *flatness(loaded),
    ]
    return Table("Cost of rules", ("firewall", "way", "rules", *(f"{kind}, us" for kind in KINDS)), rows, notes)


def flatness(loaded: list[Loaded]) -> list[str]:
    """By way and firewall, the dearest list over the shortest."""
    notes = []
    for backend in BACKENDS:
        for way in ("routing", "marks"):
            found = {
                item.case.number: item.effort.spent
                for item in loaded
                if (item.case.backend, item.case.label) == (backend, way)
            }
            if len(found) > 1:
                few, many = min(found), max(found)
                grown = [median_and_range(ratios(found[many][kind], found[few][kind])) for kind in KINDS]
                costs = ", ".join(f"{kind} {ratio}" for kind, ratio in zip(KINDS, grown, strict=True))
                notes.append(f"{backend}, {way}: {many} rules over {few}: {costs}.")
    return notes


def _loading(loaded: list[Loaded]) -> Table:
    rows = [
        [item.case.backend, item.case.way, str(item.case.number), milliseconds(item.first), milliseconds(item.again)]
        for item in loaded
        if item.case.checked
    ]
    notes = [
        "Processor time of the engine as a process of its own, from the parameters to the verified kernel, with the"
        " start of Python and with nft; the second run finds nothing to do."
    ]
    return Table("Loading rules", ("firewall", "way", "rules", "first run, ms", "second run, ms"), rows, notes)
