# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A play may list the objects of one kind in several tasks: they do not take turns in changing the router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from _mwan import changes
from _mwan.document import Document
from _mwan.flow import Outcome, converge
from unit.model_kernel import ModelRouter
from unit.worlds import GUESTS, LAN, TWO_LINKS, apply, facts

Change = Callable[[Document, Mapping[str, Any]], Document]

RULES = [
    {"name": "voip", "source": LAN, "protocol": "udp", "destination_port": "5060", "link": "isp_b"},
    {"name": "guests", "source": GUESTS, "link": "isp_b"},
    {"name": "rest", "source": "192.168.0.0/16", "policy": "balanced"},
]
POLICIES = [{"name": name, "members": [{"link": "isp_a"}]} for name in ("balanced", "voice", "backup")]
SNAT = [{"link": link, "source": [source]} for link, source in (("isp_a", LAN), ("isp_b", LAN), ("isp_a", GUESTS))]
DNAT = [
    {"name": name, "to": "192.168.101.1", "protocol": "tcp", "port": port} for name, port in (("web", 80), ("mail", 25))
]
LINKS = [*TWO_LINKS["links"], {"name": "lte", "device": "ppp0"}]

# kind: the module's change, its objects, what a second value of the first object differs in
KINDS: dict[str, tuple[Change, list[dict[str, Any]], dict[str, Any]]] = {
    "links": (changes.links, LINKS, {"weight": 9}),
    "policies": (changes.policies, POLICIES, {"last_resort": "blackhole"}),
    "rules": (changes.policies, RULES, {"link": "isp_a"}),
    "snat": (changes.snat, SNAT, {"to": "masquerade"}),
    "dnat": (changes.dnat, DNAT, {"to": "192.168.101.2"}),
}


@pytest.fixture
def router() -> ModelRouter:
    """With links and a policy that the objects may refer to."""
    router = ModelRouter(facts())
    apply(router, {"links": TWO_LINKS["links"], "policies": POLICIES[:1]})
    return router


def task(router: ModelRouter, kind: str, item: Mapping[str, Any]) -> Outcome:
    """One task that lists one object and no others, as an administrator writes them one below the other."""
    empty = {"policies": [], "rules": [], "default_policy": None} if kind in ("policies", "rules") else {}
    params = {**empty, kind: [item], "state": "present", "purge": False}
    change = KINDS[kind][0]
    return converge(router.ports, lambda stored: change(stored, params), strict=False)


def keys(outcome: Outcome, kind: str) -> list[Any]:
    return [item.key for item in getattr(outcome.document, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_second_round_of_tasks_with_one_object_each_changes_nothing(router: ModelRouter, kind: str) -> None:
    items = KINDS[kind][1]
    order = keys([task(router, kind, item) for item in items][-1], kind)
    before = router.snapshot()
    again = [task(router, kind, item) for item in items]
    assert [outcome.actions for outcome in again] == [[]] * len(items)
    assert [keys(outcome, kind) for outcome in again] == [order] * len(items)
    assert router.snapshot() == before


@pytest.mark.parametrize("kind", KINDS)
def test_objects_stay_in_the_order_of_their_tasks(router: ModelRouter, kind: str) -> None:
    items = KINDS[kind][1]
    order = [keys(task(router, kind, item), kind) for item in items][-1]
    fresh = ModelRouter(facts())
    apply(fresh, {"links": LINKS, "policies": POLICIES})
    params = {"policies": POLICIES, "rules": [], "default_policy": None, kind: items, "state": "present", "purge": True}
    at_once = converge(fresh.ports, lambda stored: KINDS[kind][0](stored, params), strict=False)
    assert order == keys(at_once, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_object_that_changes_keeps_its_place(router: ModelRouter, kind: str) -> None:
    items, different = KINDS[kind][1:]
    order = keys([task(router, kind, item) for item in items][-1], kind)
    outcome = task(router, kind, {**items[0], **different})
    assert outcome.changed
    assert keys(outcome, kind) == order
