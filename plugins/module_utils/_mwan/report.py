# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans and states as people read them: --diff, the `actions` result, log lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from . import layout, pins
from .kernel import State
from .plan import Operation, predict, route_words, table_name


def actions(operations: Iterable[Operation], names: Mapping[int, str]) -> list[str]:
    return [operation.describe(names) for operation in operations]


def diff(
    before: State, operations: Iterable[Operation], names: Mapping[int, str], spelling: Mapping[str, str]
) -> list[dict[str, str]]:
    """Ansible's list of differences.

    One entry for each area the plan changes: rules, routes, firewall, sysctls, files, pins. `spelling` gives other
    words for a firewall's text.
    """
    planned = list(operations)
    after = predict(before, planned)
    texts = [(title, text(before), text(after)) for title, text in _areas(names, planned, spelling)]
    return [
        {"before_header": title, "after_header": title, "before": old, "after": new}
        for title, old, new in texts
        if old != new
    ]


def _areas(
    names: Mapping[int, str], planned: list[Operation], spelling: Mapping[str, str]
) -> list[tuple[str, Callable[[State], str]]]:
    files = sorted({operation.subject for operation in planned if operation.kind == "file"})
    sysctls = {operation.subject for operation in planned if operation.kind == "sysctl"}
    return [
        ("ip rule", lambda state: rules_text(state, names)),
        ("ip route", lambda state: routes_text(state, names)),
        ("firewall", lambda state: spelling.get(state.firewall, state.firewall)),
        ("firewall of the former backend", lambda state: state.former_firewall),
        (
            "sysctl",
            lambda state: _join(
                "{} = {}".format(*item) for item in sorted(state.sysctls.items()) if item[0] in sysctls
            ),
        ),
        *((path, lambda state, path=path: state.files.get(path) or "") for path in files),
        (layout.PINS, lambda state: pins.text(state.pins) or ""),
        (layout.BALANCE, lambda state: state.balance or ""),
    ]


def rules_text(state: State, names: Mapping[int, str]) -> str:
    ordered = sorted((rule.priority, rule.mark or 0, rule.words(table_name(rule.table, names))) for rule in state.rules)
    return _join(f"{priority}: {words}" for priority, _mark, words in ordered)


def routes_text(state: State, names: Mapping[int, str]) -> str:
    ordered = sorted(state.routes, key=lambda route: (route.table, route.metric, route.destination))
    return _join(route_words(route, names) for route in ordered)


def _join(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)
