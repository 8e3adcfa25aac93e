# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules in their order, where they lead, and what each has taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..covered import covered
from ..document import Document
from ..rules import Rule
from .table import Column, render

COLUMNS = (Column("RULE"), Column("NEW", right=True), Column("OCTETS", right=True, optional=1), Column("TO"))


def build(document: Document, counters: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """As plain data: `packets` and `octets` of the first packets of connections; None where rules are not counted."""
    never = {rule.name: earlier.name for rule, earlier in covered(document.rules)}
    return [_entry(rule, counters, never) for rule in document.rules]


def _entry(rule: Rule, counters: Mapping[str, tuple[int, int]], never: Mapping[str, str]) -> dict[str, Any]:
    packets, octets = counters.get(rule.name, (None, None))
    return {**rule.dump(), "packets": packets, "octets": octets, "covered_by": never.get(rule.name)}


def lines(built: list[dict[str, Any]], width: int) -> list[str]:
    if not built:
        return ["No rule is declared."]
    return render(COLUMNS, [_row(entry) for entry in built], width)


def _row(entry: Mapping[str, Any]) -> dict[str, str]:
    place = next((f"{kind} {entry[kind]}" for kind in ("policy", "link") if kind in entry), entry.get("target", ""))
    never = f"; never matches, {entry['covered_by']} takes all of it" if entry["covered_by"] else ""
    return {
        "RULE": entry["name"],
        "NEW": _number(entry["packets"]),
        "OCTETS": _number(entry["octets"]),
        "TO": place + never,
    }


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
