# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links taken out of service by hand: remembered, followed by the routes, and never the last one by mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _mwan import drains, store
from _mwan.errors import InputError
from _mwan.flow import converge
from unit.model_kernel import ModelRouter
from unit.worlds import TWO_LINKS, apply, facts, set_health

NOW, LATER = "2026-01-01T12:00:00+00:00", "2026-01-02T12:00:00+00:00"


@pytest.fixture
def router() -> ModelRouter:
    made = ModelRouter(facts())
    apply(made, TWO_LINKS)
    return made


def drain(router: ModelRouter, name: str, why: str = "", since: str = NOW, **options: Any) -> bool:
    return drains.drain(router.ports, name, why, since, **options)


def serving(router: ModelRouter) -> set[str]:
    """The devices that the default policy's route spreads over, once the router has followed."""
    converge(router.ports, lambda stored: stored, strict=False)
    tables = {rule.table for rule in router.routing.rules() if rule.priority == 1999}
    return {hop.device for route in router.routing.routes() if route.table in tables for hop in route.nexthops}


def test_a_drained_link_takes_none_until_it_is_given_back(router: ModelRouter) -> None:
    assert serving(router) == {"wan1", "wan2"}
    assert drain(router, "isp_a", "new modem")
    assert serving(router) == {"wan2"}
    assert store.load_drained(router.files) == {"isp_a": {"since": NOW, "why": "new modem"}}
    router.reboot()
    assert serving(router) == {"wan2"}
    assert drains.undrain(router.ports, "isp_a")
    assert serving(router) == {"wan1", "wan2"}
    assert store.DRAINED not in router.files.texts


def test_again_changes_nothing_but_a_new_reason(router: ModelRouter) -> None:
    drain(router, "isp_a", "new modem")
    assert not drain(router, "isp_a", since=LATER)
    assert store.load_drained(router.files) == {"isp_a": {"since": NOW, "why": "new modem"}}
    assert not drain(router, "isp_a", "no modem", LATER)
    assert store.load_drained(router.files) == {"isp_a": {"since": NOW, "why": "no modem"}}
    assert drains.undrain(router.ports, "isp_a")
    assert not drains.undrain(router.ports, "isp_a")


@pytest.mark.parametrize("state", ["down", "suspect"])
def test_the_last_link_is_refused(router: ModelRouter, state: str) -> None:
    set_health(router, {"isp_a": state})
    if state == "down":
        with pytest.raises(InputError, match="'isp_b' is the last that takes new connections of balanced"):
            drain(router, "isp_b")
        assert store.load_drained(router.files) == {}
        assert drain(router, "isp_b", force=True)
        assert serving(router) == set()
    else:
        assert drain(router, "isp_b"), "a suspect link is better than none, and takes over"
        assert serving(router) == {"wan1"}


def test_a_link_that_takes_none_anyway_can_be_drained(router: ModelRouter) -> None:
    set_health(router, {"isp_a": "down", "isp_b": "down"})
    assert drain(router, "isp_a")


def test_the_only_link_of_another_policy_is_refused(router: ModelRouter) -> None:
    policies = [*TWO_LINKS["policies"], {"name": "voice", "members": [{"link": "isp_b"}]}]
    apply(router, {**TWO_LINKS, "policies": policies})
    with pytest.raises(InputError, match="of voice"):
        drain(router, "isp_b")
    assert drain(router, "isp_a")


def test_what_is_no_link_is_refused_with_those_that_are(router: ModelRouter) -> None:
    for attempt in (lambda: drain(router, "isp_c"), lambda: drains.undrain(router.ports, "isp_c")):
        with pytest.raises(InputError, match="The links are isp_a, isp_b"):
            attempt()
    with pytest.raises(InputError, match="No link is declared"):
        drain(ModelRouter(facts()), "isp_c")


def test_a_link_that_is_gone_can_be_given_back(router: ModelRouter) -> None:
    router.files.texts[store.DRAINED] = json.dumps({"links": {"old": {"since": NOW, "why": ""}}})
    assert drains.undrain(router.ports, "old")
    assert store.load_drained(router.files) == {}


def test_a_dry_run_refuses_and_tells_as_the_run_would_and_remembers_nothing(router: ModelRouter) -> None:
    assert drain(router, "isp_a", check=True)
    assert store.DRAINED not in router.files.texts
    drain(router, "isp_a")
    assert not drain(router, "isp_a", check=True)
    with pytest.raises(InputError, match="is the last"):
        drain(router, "isp_b", check=True)
    assert drains.undrain(router.ports, "isp_a", check=True)
    assert set(store.load_drained(router.files)) == {"isp_a"}


def test_the_lock_is_held_while_it_is_remembered(router: ModelRouter) -> None:
    held: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            held.append(f"in {len(store.load_drained(router.files))}")

        def __exit__(self, *_: object) -> None:
            held.append(f"out {len(store.load_drained(router.files))}")

    object.__setattr__(router.ports, "lock", Lock)
    drain(router, "isp_a")
    drains.undrain(router.ports, "isp_a")
    assert held == ["in 0", "out 1", "in 1", "out 0"]
