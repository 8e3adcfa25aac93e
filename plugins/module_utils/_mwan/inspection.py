# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a router has, against what was declared for it; reads only."""

from __future__ import annotations

from typing import Any

from . import layout, report
from .desired import table_names
from .document import Document
from .flow import Run, converge, open_run
from .kernel import MAIN, Facts, IpRule, State
from .model import RP_MODES, Settings
from .plan import route_words
from .ports import Router

MODES = {str(number): mode for mode, number in RP_MODES.items()}


def inspect(router: Router) -> dict[str, Any]:
    """Everything mwan_info returns; raises KernelError."""
    run = open_run(router)
    document, state = run.stored, run.observe()
    names = table_names(document)
    foreign = router.routing.foreign_rules()
    outcome = converge(router, lambda stored: stored, check=True, strict=False)
    return {
        "desired": document.dump(),
        "links": {name: {**link, "health": run.health.state(name)} for name, link in outcome.links.items()},
        "observed": {
            "rules": report.rules_text(state, names).splitlines(),
            "routes": report.routes_text(state, names).splitlines(),
            "firewall": state.firewall,
            "rule_counters": _counters(run),
        },
        "effective": {"rp_filter": effective_rp_filter(router, run.facts), "defaults": defaults(state, names)},
        "drift": outcome.actions,
        "shadowed": [str(rule) for rule in shadowed(foreign, document)],
        "foreign": [str(rule) for rule in overlapping(foreign, document.settings, set(names))],
        "warnings_found": list(outcome.warnings),
    }


def _counters(run: Run) -> dict[str, dict[str, int]]:
    found = run.port.counters() if run.stored.rules else {}
    return {name: {"packets": packets, "octets": octets} for name, (packets, octets) in found.items()}


def effective_rp_filter(router: Router, facts: Facts) -> dict[str, str]:
    """The kernel applies the higher of conf.all and conf.DEVICE (ip-sysctl.rst, rp_filter)."""
    keys = {name: f"net/ipv4/conf/{name}/rp_filter" for name in ("all", *facts.devices)}
    values = router.sysctl.read(keys.values())
    floor = values.get(keys["all"], "0")
    return {name: MODES.get(max(floor, values.get(keys[name], "0")), "unknown") for name in facts.devices}


def defaults(state: State, names: dict[int, str]) -> dict[str, str]:
    """The best default route of each of our tables."""
    best: dict[str, str] = {}
    for route in sorted(state.routes, key=lambda item: item.metric):
        if route.table != MAIN:
            best.setdefault(names.get(route.table, str(route.table)), route_words(route, names))
    return best


def shadowed(rules: tuple[IpRule, ...], document: Document) -> list[IpRule]:
    """Rules of others that new connections no longer reach, because the default policy takes them before."""
    last = document.settings.rule_priority + layout.DEFAULT_POLICY
    kernels_own = (32766, 32767)
    later = (rule for rule in rules if rule.priority > last and rule.priority not in kernels_own)
    return list(later) if document.default_policy else []


def overlapping(rules: tuple[IpRule, ...], settings: Settings, tables: set[int]) -> list[IpRule]:
    """Rules of others that look at bits of our mask, or send packets to our tables."""
    return [
        rule
        for rule in rules
        if rule.table in tables
        or (rule.mark is not None and (rule.mask or 0xFFFFFFFF) & settings.mark_mask & rule.mark)
    ]
