# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The lists of rules that benchmarks load: as many as asked for, all valid, none of which covers another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
from _mwan.covered import covered
from _mwan.rules import Rule
from bench.rulesets import MOST_SINGLE, alternating, mixed, paired, sources


def parsed(listed: list[dict[str, Any]]) -> list[Rule]:
    return [Rule.parse("rules", item) for item in listed]


@pytest.mark.parametrize("make", [sources, mixed, alternating])
@pytest.mark.parametrize("number", [1, 1000])
def test_rules_are_valid_and_each_can_match(make: Callable[[int, str], list[dict[str, Any]]], number: int) -> None:
    rules = parsed(make(number, "lan0"))
    assert len({rule.name for rule in rules}) == number
    assert {rule.device for rule in rules} == {"lan0"}
    assert not list(covered(rules))


@pytest.mark.parametrize("number", [1, MOST_SINGLE, 1000])
def test_pairs_ask_for_the_same_networks(number: int) -> None:
    listed = parsed(paired(number))
    assert len(listed) <= MOST_SINGLE
    found = [network for rule in listed for network in rule.source]
    assert len(found) == number
    assert set(found) == {network for rule in parsed(sources(number)) for network in rule.source}


def runs(listed: list[dict[str, Any]]) -> list[int]:
    """How many in a row have the same keys."""
    return [len(list(group)) for _unused, group in groupby(listed, key=lambda item: tuple(sorted(item)))]


def test_orders() -> None:
    assert runs(mixed(40)) == [10, 10, 10, 10]
    assert runs(alternating(8)) == [1] * 8
