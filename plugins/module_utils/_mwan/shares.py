# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which part of a policy's new connections each link takes now, read off the routes they come to."""

from __future__ import annotations

from dataclasses import dataclass

from . import layout
from .desired import Desired, conf_device
from .document import Document
from .kernel import Facts, Nexthop, Surroundings
from .trace import Fib, Found

LINKDOWN = "ignore_routes_with_linkdown"


@dataclass(frozen=True)
class Spread:
    """`shares` by link sum up to 1, or are empty: then `last_resort` is what new connections meet."""

    shares: dict[str, float]
    tier: int | None
    last_resort: str


def routing(desired: Desired, facts: Facts, surroundings: Surroundings | None = None) -> Fib:
    """The routing as it shall be, with what others have beside it."""
    others = surroundings or Surroundings()
    ignoring = [conf_device(key) or "" for key in desired.state.sysctls if key.endswith(LINKDOWN)]
    rules = [*desired.state.rules, *(rule for rule in others.rules if rule not in others.unclear)]
    return Fib.of(rules, [*desired.state.routes, *others.routes], facts.devices, ignoring)


def spreads(document: Document, desired: Desired, facts: Facts) -> dict[str, Spread]:
    """By policy."""
    fib = routing(desired, facts)
    found = {}
    for policy in document.policies:
        best = fib.best(document.settings.table(document.policy_ident(policy.name)), "0.0.0.0")
        found[policy.name] = Spread(_shares(desired, best), tier_of(best), policy.last_resort)
    return found


def _shares(desired: Desired, best: Found | None) -> dict[str, float]:
    hops = best.nexthops if best else ()
    total = sum(hop.weight for hop in hops)
    return {link_of(desired, hop): hop.weight / total for hop in hops}


def tier_of(found: Found | None) -> int | None:
    """The tier that a policy's route serves: its metric, or that of a plain default beside it (layout.FALLBACK)."""
    if found is None or not found.nexthops:
        return None
    metric = found.route.metric
    return metric // layout.FALLBACK if metric >= layout.FALLBACK else metric


def link_of(desired: Desired, hop: Nexthop) -> str:
    """The link that a nexthop of our routes belongs to."""
    names = (link.name for link in desired.links.values() if (link.device, link.gateway) == (hop.device, hop.gateway))
    return next(names)


def takes_new(found: dict[str, Spread]) -> set[str]:
    """The links that new connections are placed on by any policy."""
    return {link for spread in found.values() for link in spread.shares}
