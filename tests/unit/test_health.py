# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The prober's word on links and the operator's over it, as they are read from the router."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from _mwan import flow, store
from _mwan.health import STATES, Health
from hypothesis import given
from hypothesis import strategies as st
from unit import worlds
from unit.model_kernel import Faults, Files, ModelRouter


def written(**links: Any) -> Files:
    files = Files(Faults())
    files.texts[store.HEALTH] = json.dumps({"schema": 1, "links": links})
    return files


@pytest.mark.parametrize(
    ("entry", "state", "released"),
    [
        ({"state": "down", "since": "2026-01-01T00:00:00Z", "reason": "silence", "released": "down"}, "down", "down"),
        ({"state": "up", "released": "failback", "evidence": {"loss": 0}}, "up", "failback"),
        ({"state": "up", "released": None}, "up", None),
        ({"state": "up", "released": "now"}, "up", None),
        ({"state": "asleep", "released": "down"}, "unknown", "down"),
        ({"released": ["down"]}, "unknown", None),
        ("down", "unknown", None),
    ],
)
def test_an_entry_is_understood_or_unknown(entry: Any, state: str, released: str | None) -> None:
    health = store.load_health(written(isp_a=entry))
    assert (health.state("isp_a"), health.released_by("isp_a")) == (state, released)
    assert (health.state("isp_b"), health.released_by("isp_b")) == ("unknown", None)


@pytest.mark.parametrize("state", STATES)
def test_a_drained_link_takes_nothing_and_is_still_down_when_it_is(state: str) -> None:
    files = written(isp_a={"state": state, "released": "failback"}, isp_b={"state": state})
    store.save_drained(files, {"isp_a": {"since": "2026-01-01T00:00:00Z", "why": "new fibre"}})
    health = store.load_health(files)
    assert health.state("isp_a") == ("down" if state == "down" else "drained")
    assert health.released_by("isp_a") == "failback"
    assert health.state("isp_b") == state


def test_a_link_can_be_drained_while_no_prober_runs() -> None:
    files = Files(Faults())
    store.save_drained(files, {"isp_a": {}})
    assert store.load_health(files) == Health({"isp_a": "drained"})


links = st.dictionaries(st.sampled_from(worlds.NAMES), st.fixed_dictionaries({"since": st.text(), "why": st.text()}))


@given(links)
def test_drained_links_are_remembered_until_there_are_none(drained: Any) -> None:
    files = Files(Faults())
    store.save_drained(files, drained)
    assert store.load_drained(files) == drained
    assert (store.DRAINED in files.texts) == bool(drained)
    store.save_drained(files, {})
    assert files.texts == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"links": []}', '{"links": {"isp_a": "drained"}}', "null"])
def test_a_file_that_says_nothing_drains_none(text: str) -> None:
    files = Files(Faults())
    files.texts[store.DRAINED] = text
    assert store.load_drained(files) == {}
    assert store.load_health(files) == Health()


def test_a_drained_link_is_led_around_and_that_is_no_drift() -> None:
    router = ModelRouter(worlds.facts())
    worlds.apply(router, worlds.TWO_LINKS)
    store.save_drained(router.files, {"isp_a": {"why": "new fibre"}})
    outcome = worlds.apply(router, worlds.TWO_LINKS)
    assert outcome.changed
    assert not any("wan1" in line for line in policy_routes(router))
    assert worlds.apply(router, worlds.TWO_LINKS).actions == []
    store.save_drained(router.files, {})
    worlds.apply(router, worlds.TWO_LINKS)
    assert any("wan1" in line for line in policy_routes(router))


@pytest.mark.parametrize(("runs", "warned"), [(True, 0), (False, 1)])
def test_a_link_that_a_prober_which_does_not_run_keeps_out_is_told(runs: bool, warned: int) -> None:
    router = ModelRouter(worlds.facts())
    worlds.apply(router, worlds.TWO_LINKS)
    states = {"isp_a": {"state": "down"}, "isp_b": {"state": "up"}, "isp_gone": {"state": "down"}}
    router.files.texts[store.HEALTH] = json.dumps({"links": states})
    store.save_drained(router.files, {"isp_a": {"why": "new fibre"}})
    ports = replace(router.ports, prober_runs=lambda: runs)
    for check in (False, True):
        warnings = flow.converge(ports, lambda stored: stored, check=check).warnings
        assert [warning for warning in warnings if "last word" in warning] == [
            "link isp_a is kept out by the last word of a prober that does not run; start it (systemctl start mwan), "
            "or remove /run/mwan/health.json and run 'mwanctl restore'"
        ] * warned


def policy_routes(router: ModelRouter) -> list[str]:
    return [str(route) for route in router.routing.routes() if route.table == 1003]
