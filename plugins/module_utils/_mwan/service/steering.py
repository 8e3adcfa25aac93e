# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lead new connections by the routes of the policies alone, from those that are observed. Pure.

It depends on neither firewall, sysctls nor files, so that a link that dies is left even where a whole run would fail.
New connections are led to a link only where all that they need there is known to be in place; else that is left to the
whole run, which puts it there first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from ..desired import Desired, compile_state
from ..document import Document
from ..firewall.model import Firewall
from ..health import Health
from ..kernel import Facts, State
from ..plan import LoadedFirewall, Operation, make_plan
from ..resolve import ResolvedLink

NO_FIREWALL = LoadedFirewall(Firewall(mask=0), "")


def steering(
    observed: State, document: Document, facts: Facts, health: Health, in_need: bool = False
) -> Iterator[tuple[Operation, ...]]:
    """The changes, policy by policy, of those that something leads to; `observed` has our routes, rules and pins.

    `in_need`: a whole run has failed. A policy that has no other link then takes one that is up, with its own table
    and rule, even where it is not known whether its source NAT is in place.
    """
    wanted = compiled(document, facts, health)
    unready = {
        name: link
        for name, link in wanted.links.items()
        if not _serves_already(link, observed, document) and not _in_place(link, wanted, observed, document)
    }
    careful = wanted
    if unready:
        careful = compiled(document, facts, replace(health, states={**health.states, **dict.fromkeys(unready, "down")}))
    led_to = {rule.table for rule in observed.rules}
    links = {document.settings.table(link.ident) for link in unready.values()}
    for table in _policy_tables(document) & led_to:
        if _has_way(careful.state, table) or not _has_way(wanted.state, table):
            yield _changes(careful.state, observed, document, {table})
        elif in_need:
            yield _changes(wanted.state, observed, document, {table, *links})


def compiled(document: Document, facts: Facts, health: Health) -> Desired:
    return compile_state(document, facts, health, realms=document.backend == "iptables")


def _policy_tables(document: Document) -> set[int]:
    return {document.settings.table(document.policy_ident(policy.name)) for policy in document.policies}


def _serves_already(link: ResolvedLink, observed: State, document: Document) -> bool:
    """Whether a policy leads to the link now, so that leading more there makes nothing worse."""
    tables, way = _policy_tables(document), (link.device, link.gateway)
    hops = (hop for route in observed.routes if route.table in tables for hop in route.nexthops)
    return any((hop.device, hop.gateway) == way for hop in hops)


def _in_place(link: ResolvedLink, wanted: Desired, observed: State, document: Document) -> bool:
    """Whether the link's table and rule are there, and its address is the one of the last run that succeeded."""
    table, mark = document.settings.table(link.ident), document.settings.mark(link.ident)
    ways = {route for route in wanted.state.routes if route.table == table and route.kind == "unicast"}
    ruled = any((rule.mark, rule.table) == (mark, table) for rule in observed.rules)
    pin = observed.pins.get(link.name)
    known = pin is not None and pin.mark == mark and (link.address is None or link.address in pin.sources)
    return bool(ways) and ways <= observed.routes and ruled and known


def _has_way(state: State, table: int) -> bool:
    return any(route.table == table and route.kind == "unicast" for route in state.routes)


def _changes(wanted: State, observed: State, document: Document, tables: Collection[int]) -> tuple[Operation, ...]:
    """In the planner's order, as if all else were as it shall be; of the rules, only the links' own may be missing."""
    own = {rule for rule in wanted.rules if rule.mark is not None and rule.table in tables}
    before, after = (
        State(routes=frozenset(route for route in state.routes if route.table in tables), rules=rules)
        for state, rules in ((observed, observed.rules), (wanted, observed.rules | own))
    )
    return make_plan(after, before, document.settings, NO_FIREWALL, NO_FIREWALL, NO_FIREWALL)
