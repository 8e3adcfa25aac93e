# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What holds for every configuration, machine and health."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from _mwan import changes, ids, store
from _mwan.apply import ApplyError
from _mwan.document import Document
from _mwan.errors import InputError
from _mwan.flow import converge
from _mwan.health import Health
from _mwan.kernel import DEFAULT, MAIN, IpRule, Nexthop, Route
from hypothesis import assume, given
from hypothesis import strategies as st
from unit import worlds
from unit.model_kernel import BY_KERNEL, ModelRouter

worlds_of = st.tuples(worlds.wishes(), worlds.machines(), worlds.healths())
protocols = st.integers(0, 255).filter(lambda number: number not in (77, BY_KERNEL))
tables = st.sampled_from((MAIN, 100, 500)) | st.integers(1100, 1200)
foreign_routes = st.builds(
    lambda table, network, metric, protocol: (
        Route(table, network, metric, nexthops=(Nexthop("lan0", "192.168.101.1"),)),
        protocol,
    ),
    tables,
    st.sampled_from((DEFAULT, "203.0.113.0/24", "10.9.0.0/16")),
    st.integers(1, 2000),
    protocols,
)
foreign_rules = st.tuples(
    st.builds(
        IpRule,
        st.sampled_from((500, 1000, 1001, 1100, 1200, 1999, 5210)),
        tables | st.integers(1001, 1010),
        source=st.sampled_from((None, worlds.LAN)),
        mark=st.just(0x80000),
        mask=st.just(0xFF0000),
    ),
    protocols,
)


@given(worlds_of, worlds_of)
def test_after_a_change_the_plan_is_empty(first: Any, second: Any) -> None:
    wish, machine, health = first
    router = ModelRouter(worlds.facts(**machine))
    worlds.set_health(router, health)
    worlds.apply(router, wish)
    wish, machine, health = second
    router.set_facts(worlds.facts(**machine))
    worlds.set_health(router, health)
    predicted = worlds.apply(router, wish, check=True)
    done = worlds.apply(router, wish)
    assert predicted.actions == done.actions
    assert predicted.diff == done.diff
    router.faults.writes = 0
    again = worlds.apply(router, wish)
    assert (again.actions, again.diff, router.faults.writes) == ([], [], 0)


@given(worlds_of, worlds.wishes(), st.lists(foreign_routes, max_size=4), st.lists(foreign_rules, max_size=4))
def test_objects_of_others_are_never_touched(first: Any, next_wish: Any, routes: Any, rules: Any) -> None:
    wish, machine, health = first
    router = ModelRouter(worlds.facts(**machine))
    worlds.set_health(router, health)
    for route, protocol in routes:
        router.routing.rib.setdefault(route.key, (route, protocol))
    for rule, protocol in rules:
        router.routing.insert_rule(rule, protocol)
    before = router.foreign()
    for step in (wish, next_wish, {}):
        worlds.apply(router, step)
        assert router.foreign() == before
    assert router.routing.rules() == router.routing.routes() == frozenset()


@given(worlds.wishes(), worlds.machines(), st.randoms(use_true_random=False))
def test_whatever_is_altered_by_hand_is_found_and_only_that_is_repaired(
    wish: Any, machine: Any, choose: random.Random
) -> None:
    router = ModelRouter(worlds.facts(**machine))
    worlds.apply(router, wish)
    assume(router.routing.routes() or router.routing.rules())
    before = router.snapshot()
    touched = router.meddle(choose)
    assert router.snapshot() != before
    found = worlds.apply(router, wish, check=True)
    assert len(found.actions) == 1, (touched, found.actions)
    repaired = worlds.apply(router, wish)
    assert repaired.actions == found.actions
    assert router.snapshot() == before


@given(worlds.wishes(), worlds.machines(), st.randoms(use_true_random=False))
def test_a_sysctl_or_file_altered_by_hand_is_put_back(wish: Any, machine: Any, choose: random.Random) -> None:
    router = ModelRouter(worlds.facts(**machine))
    document = worlds.apply(router, wish).document
    ours = [path for path in router.files.texts if path.startswith("/etc/") and path != store.DOCUMENT]
    assume(document.originals or ours)
    before = router.snapshot()
    if document.originals and (not ours or choose.random() < 0.5):
        router.sysctl.values[choose.choice(sorted(document.originals))] = "7"
    else:
        router.files.texts[choose.choice(ours)] = "# edited\n"
    assert len(worlds.apply(router, wish).actions) == 1
    assert router.snapshot() == before


@given(worlds_of)
def test_removing_everything_leaves_the_router_as_it_was(world: Any) -> None:
    wish, machine, health = world
    router = ModelRouter(worlds.facts(**machine))
    worlds.set_health(router, health)
    before = router.snapshot()
    worlds.apply(router, wish)
    worlds.apply(router, {})
    assert router.snapshot() == before


@given(worlds_of)
def test_a_reboot_restores_the_same_state(world: Any) -> None:
    wish, machine, _health = world
    router = ModelRouter(worlds.facts(**machine))
    worlds.apply(router, wish)
    before = router.snapshot()
    router.reboot()
    converge(router.ports, lambda stored: stored, strict=False)
    assert router.snapshot() == before


def writes_of(wish: Any, machine: Any, health: Any) -> int:
    router = ModelRouter(worlds.facts(**machine))
    worlds.apply(router, worlds.TWO_LINKS)
    worlds.set_health(router, health)
    router.faults.writes = 0
    worlds.apply(router, wish)
    return router.faults.writes


@given(worlds_of, st.integers(1, 60))
def test_a_change_that_is_refused_at_any_write_is_undone(world: Any, refused: int) -> None:
    wish, machine, health = world
    router = ModelRouter(worlds.facts(**machine))
    worlds.apply(router, worlds.TWO_LINKS)
    worlds.set_health(router, health)
    before, writes = router.snapshot(), writes_of(wish, machine, health)
    router.faults.writes, router.faults.refuse = 0, refused
    if refused <= writes:
        with pytest.raises(ApplyError, match="refused as told"):
            worlds.apply(router, wish)
        assert router.snapshot() == before
    router.faults.refuse = None
    worlds.apply(router, wish)
    assert not worlds.apply(router, wish).changed


@given(worlds.wishes(), st.permutations(range(4)))
def test_the_order_of_modules_does_not_matter(wish: Any, order: list[int]) -> None:
    """Links first, because the others refer to them; then in any order."""
    calls = [
        (changes.snat, {"snat": wish["snat"], "state": "present", "purge": False}),
        (changes.dnat, {"dnat": wish["dnat"], "state": "present", "purge": False}),
        (changes.rp_filter, {**dict.fromkeys(changes.RP_FILTER), **wish["rp_filter"], "state": "present"}),
        (changes.policies, {**{key: wish[key] for key in ("policies", "rules", "default_policy")}, "state": "present",
                            "purge": False}),
    ]  # fmt: skip
    routers = [ModelRouter(worlds.facts()), ModelRouter(worlds.facts())]
    for router, sequence in zip(routers, (range(4), order), strict=True):
        links = {"links": wish["links"], "state": "present", "purge": False}
        converge(router.ports, lambda stored, links=links: changes.links(stored, links), strict=False)
        for change, params in (calls[index] for index in sequence):
            converge(router.ports, lambda stored, change=change, params=params: change(stored, params), strict=False)
    assert routers[0].snapshot() == routers[1].snapshot()


@given(worlds.wishes())
def test_what_is_stored_is_its_own_canonical_form(wish: Any) -> None:
    document = worlds.wished(Document(), wish).check()
    assert Document.parse(document.dump()) == document
    assert Document.parse(document.dump()).dump() == document.dump()


names = st.lists(st.from_regex(r"link:[a-z][0-9]?", fullmatch=True), unique=True, max_size=20)


@given(names, names, st.randoms(use_true_random=False))
def test_ids_stay_when_others_come_go_or_change_places(old: list[str], new: list[str], shuffle: random.Random) -> None:
    stored = ids.allocate({}, old, 63, "mark_mask")
    wanted = old + [name for name in new if name not in stored]
    shuffle.shuffle(wanted)
    wanted = [name for name in wanted if name not in old[::3]]
    given_ids = ids.allocate(stored, wanted, 63, "mark_mask")
    assert set(given_ids) == set(wanted)
    assert len(set(given_ids.values())) == len(wanted)
    assert all(given_ids[name] == stored[name] for name in wanted if name in stored)
    freshly = {given_ids[name] for name in wanted if name not in stored}
    assert not freshly & set(stored.values())


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ("links", "isp_a", "state", "up", "down")), inner, max_size=3)))  # fmt: skip
def test_whatever_the_prober_wrote_health_is_understood_or_unknown(data: Any) -> None:
    health = Health.parse(data)
    assert health.state("isp_a") in ("unknown", "up", "down")


@given(
    worlds.wishes(),
    st.sampled_from(("name", "device", "gateway", "weight")),
    st.sampled_from((-1, "", "a b", "::1", [])),
)
def test_a_bad_link_is_refused_before_anything_is_touched(wish: Any, option: str, value: Any) -> None:
    assume(wish["links"])
    router = ModelRouter(worlds.facts())
    worlds.apply(router, worlds.TWO_LINKS)
    before = router.snapshot()
    wish = {**wish, "links": [{**wish["links"][0], option: value}, *wish["links"][1:]]}
    with pytest.raises(InputError) as caught:
        worlds.apply(router, wish)
    assert caught.value.option.startswith("links[0]." + option)
    assert caught.value.remedy
    assert router.snapshot() == before


def test_health_overlay_does_not_reach_the_document() -> None:
    router = ModelRouter(worlds.facts())
    document = worlds.apply(router, worlds.TWO_LINKS).document
    worlds.set_health(router, {"isp_a": "down"})
    after = worlds.apply(router, worlds.TWO_LINKS).document
    assert replace(after, originals={}) == replace(document, originals={})
