# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Who takes new connections, by the health of the links and what is declared for degraded ones."""

from __future__ import annotations

from math import gcd
from typing import Any

import pytest
from _mwan import layout
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.health import STATES, Health
from _mwan.kernel import Facts, Route
from _mwan.resolve import resolve
from _mwan.serving import Serving, fitted
from hypothesis import given
from hypothesis import strategies as st
from unit import worlds
from unit.worlds import facts

SLOTS = [("wan1", "5.5.5.1"), ("wan2", "6.6.6.1"), ("ppp0", None), ("ppp1", None)]


def world(
    *members: tuple[int, int], degraded: dict[str, str] | None = None, probe: dict[str, Any] | None = None
) -> Document:
    """Links a, b, c, d in a default policy, each with its (weight, tier); `degraded` is what a link declares itself."""
    links = [
        {"name": name, "device": device, "gateway": gateway}
        for name, (device, gateway), _member in zip("abcd", SLOTS, members, strict=False)
    ]
    for link in links:
        if link["name"] in (degraded or {}):
            link["probe"] = {"degraded": degraded[link["name"]]}
    listed = [
        {"link": name, "weight": weight, "tier": tier} for name, (weight, tier) in zip("abcd", members, strict=False)
    ]
    policy = {"name": "p", "members": listed}
    return Document.parse({"links": links, "policies": [policy], "default_policy": "p",
                           "settings": {"probe": probe or {}}})  # fmt: skip


def routes(document: Document, health: Health, machine: Facts | None = None) -> list[Route]:
    state = compile_state(document, machine or facts(), health).state
    table = document.settings.table(document.policy_ident("p"))
    return sorted((route for route in state.routes if route.table == table), key=lambda route: route.metric)


def spread(document: Document, **states: str) -> dict[int, dict[str, int]]:
    """Weights by link, by tier, as the kernel gets them."""
    names = {device: name for name, (device, _gateway) in zip("abcd", SLOTS, strict=True)}
    return {
        max(1, route.metric): {names[hop.device]: hop.weight for hop in route.nexthops}
        for route in routes(document, Health(states))
        if route.nexthops and route.metric < layout.FALLBACK
    }


ONE_TIER = ((3, 1), (1, 1))
TWO_TIERS = ((1, 1), (1, 2))


@pytest.mark.parametrize(
    ("members", "degraded", "states", "expected"),
    [
        # a suspect link takes nothing while another takes something, of whatever tier
        (ONE_TIER, "keep", {"a": "suspect"}, {1: {"b": 1}}),
        (TWO_TIERS, "keep", {"a": "suspect"}, {2: {"b": 1}}),
        # without another one it is better than nothing
        (ONE_TIER, "keep", {"a": "suspect", "b": "suspect"}, {1: {"a": 3, "b": 1}}),
        (ONE_TIER, "keep", {"a": "suspect", "b": "down"}, {1: {"a": 1}}),
        (ONE_TIER, "keep", {"a": "suspect", "b": "drained"}, {1: {"a": 1}}),
        (TWO_TIERS, "keep", {"a": "suspect", "b": "suspect"}, {1: {"a": 1}, 2: {"b": 1}}),
        # a link that is down or drained takes nothing whatever the others do
        (ONE_TIER, "keep", {"a": "down", "b": "drained"}, {}),
        (ONE_TIER, "out", {"a": "drained", "b": "drained"}, {}),
        # degraded: as up
        (ONE_TIER, "keep", {"a": "degraded"}, {1: {"a": 3, "b": 1}}),
        (ONE_TIER, "keep", {"a": "degraded", "b": "degraded"}, {1: {"a": 3, "b": 1}}),
        # degraded: half the weight
        (ONE_TIER, "reweight", {"a": "degraded"}, {1: {"a": 3, "b": 2}}),
        (ONE_TIER, "reweight", {"b": "degraded"}, {1: {"a": 6, "b": 1}}),
        (ONE_TIER, "reweight", {"a": "degraded", "b": "degraded"}, {1: {"a": 3, "b": 1}}),
        (((4, 1), (2, 1)), "reweight", {"a": "degraded"}, {1: {"a": 1, "b": 1}}),
        (((4, 1), (2, 1)), "reweight", {"a": "up", "b": "up"}, {1: {"a": 4, "b": 2}}),
        (((2, 1), (2, 2)), "reweight", {"a": "degraded"}, {1: {"a": 1}, 2: {"b": 1}}),
        (((2, 1), (2, 1), (5, 2)), "reweight", {"a": "degraded"}, {1: {"a": 1, "b": 2}, 2: {"c": 1}}),
        # degraded: out, while another is up, of whatever tier; before suspect ones
        (ONE_TIER, "out", {"a": "degraded"}, {1: {"b": 1}}),
        (TWO_TIERS, "out", {"a": "degraded"}, {2: {"b": 1}}),
        (ONE_TIER, "out", {"a": "degraded", "b": "degraded"}, {1: {"a": 3, "b": 1}}),
        (ONE_TIER, "out", {"a": "degraded", "b": "down"}, {1: {"a": 1}}),
        (ONE_TIER, "out", {"a": "degraded", "b": "suspect"}, {1: {"a": 1}}),
        # weight 0 takes nothing even when it is alone
        (((0, 1), (1, 1)), "keep", {"b": "suspect"}, {1: {"b": 1}}),
        (((0, 1), (1, 1)), "keep", {"b": "down"}, {}),
    ],
)
def test_new_connections_are_placed(members: Any, degraded: str, states: Any, expected: Any) -> None:
    found = spread(world(*members, probe={"degraded": degraded}), **states)
    assert found == expected


def test_each_link_says_for_itself_what_being_degraded_means() -> None:
    document = world((1, 1), (1, 1), (1, 1), degraded={"a": "out", "b": "keep"}, probe={"degraded": "reweight"})
    assert spread(document, a="degraded", b="degraded", c="degraded") == {1: {"b": 2, "c": 1}}


def test_a_pending_link_is_no_alternative() -> None:
    document = world(*ONE_TIER)
    waiting = facts(wan2={"up": False})
    assert [hop.device for route in routes(document, Health({"a": "suspect"}), waiting) for hop in route.nexthops] == [
        "wan1", "wan1",
    ]  # fmt: skip


def test_what_health_does_to_a_policy_leaves_its_links_alone() -> None:
    document = world(*ONE_TIER, probe={"degraded": "out"})
    tables = [document.settings.table(document.link_ident(name)) for name in "ab"]

    def own(**states: str) -> set[Route]:
        state = compile_state(document, facts(), Health(states)).state
        return {route for route in state.routes if route.table in tables}

    assert own() == own(a="degraded", b="suspect") == own(a="drained", b="down")


SEGMENT = {
    "links": [
        {"name": "one", "device": "seg0", "gateway": "192.168.100.1"},
        {"name": "two", "device": "seg0", "gateway": "192.168.100.2"},
        {"name": "far", "device": "wan1", "gateway": "5.5.5.1"},
    ],
    "policies": [{"name": "p", "members": [{"link": "one"}, {"link": "two"}, {"link": "far", "weight": 0}]}],
    "default_policy": "p",
    "settings": {"probe": {"degraded": "out"}},
}


@pytest.mark.parametrize(
    ("states", "table"),
    [
        # both take the router's own connections, so the policy chooses
        ({}, None),
        ({"one": "suspect", "two": "suspect"}, None),
        # else those follow the one that the policy would choose, also when the lookup is repeated with their address
        ({"one": "suspect"}, "two"),
        ({"one": "degraded"}, "two"),
        ({"two": "degraded"}, "one"),
        ({"one": "down", "two": "suspect"}, "two"),
        ({"one": "suspect", "two": "down"}, "one"),
        ({"one": "degraded", "two": "suspect"}, "one"),
    ],
)
def test_an_address_of_two_links_goes_by_the_better_one(states: dict[str, str], table: str | None) -> None:
    document = Document.parse(SEGMENT)
    rules = compile_state(document, facts(), Health(states)).state.rules
    found = [rule.table for rule in rules if rule.source == "192.168.100.100/32"]
    assert found == ([document.settings.table(document.link_ident(table))] if table else [])


# every configuration


@given(worlds.wishes(), worlds.machines(), st.dictionaries(st.sampled_from(worlds.NAMES), st.sampled_from(STATES)))
def test_no_policy_is_without_a_way_while_a_member_could_carry(wish: Any, machine: Any, states: Any) -> None:
    document, health, seen = worlds.wished(Document(), wish).check(), Health(states), facts(**machine)
    links = resolve(document, seen)
    desired = compile_state(document, seen, health).state
    for policy in document.policies:
        able = {
            member.link for member in policy.members
            if document.weight(policy, member.link)
            and not links[member.link].pending
            and health.state(member.link) not in ("down", "drained")
        }  # fmt: skip
        table = document.settings.table(document.policy_ident(policy.name))
        ways = [route for route in desired.routes if route.table == table and route.kind == "unicast"]
        serving = {member.link for member in Serving(document, health, links).members(policy)}
        assert bool(ways) == bool(serving) == bool(able)
        assert serving <= able
        first = {link for link in able if health.state(link) in ("unknown", "up")}
        assert first <= serving
        assert not first or "suspect" not in {health.state(link) for link in serving}


@given(st.lists(st.integers(1, 512), min_size=2, max_size=6))
def test_shares_are_exact_where_the_kernel_can_have_them_and_close_elsewhere(weights: list[int]) -> None:
    found = fitted(weights)
    assert all(1 <= weight <= 256 for weight in found)
    pairs = list(zip(weights, found, strict=True))
    if max(weights) // gcd(*weights) <= 256:
        assert all(weight * sum(found) == part * sum(weights) for weight, part in pairs)
    # each part is off by one at most, and so is what it is compared with
    near = (len(weights) + 1) / 256
    assert all(abs(weight / sum(weights) - part / sum(found)) <= near for weight, part in pairs)
    assert sorted(found) == [part for _weight, part in sorted(pairs)]


def test_nothing_closer_fits_two_members() -> None:
    """By trying all of what the kernel can have."""
    for wanted in ((511, 2), (509, 255), (257, 256), (300, 512), (401, 399)):
        share = wanted[0] / sum(wanted)
        closest = min(abs(a / (a + b) - share) for a in range(1, 257) for b in range(1, 257))
        found = fitted(wanted)
        assert abs(found[0] / sum(found) - share) == pytest.approx(closest, abs=1e-9)
