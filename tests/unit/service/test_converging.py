# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One pass: that leading away first goes where the whole flow goes, and what a bad document or a mistake does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from _mwan import store
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.health import STATES, Health
from _mwan.kernel import State
from _mwan.plan import predict
from _mwan.service.converging import Converging, Order, steering
from hypothesis import given
from hypothesis import strategies as st
from unit.model_kernel import ModelRouter
from unit.worlds import TWO_LINKS, apply, facts, wishes

HEALTH = {"schema": 1, "links": {"isp_a": {"state": "down"}}}


def router() -> ModelRouter:
    made = ModelRouter(facts())
    apply(made, TWO_LINKS)
    return made


def order(shown: ModelRouter, steer: bool = False, **states: str) -> Order:
    links = {name: {"state": state, "released": None} for name, state in states.items()}
    document = store.load_document(shown.files)
    return Order({"links": links}, Health(states), document, shown.routing.seen, steer)


def state_of(document: Document, states: dict[str, str]) -> State:
    return compile_state(document, facts(), Health(states)).state


@st.composite
def outages(draw: st.DrawFn) -> tuple[Document, dict[str, str], dict[str, str]]:
    """A document, and the states of its links before and after."""
    shown = ModelRouter(facts())
    document = apply(shown, draw(wishes())).document
    words = st.sampled_from([state for state in STATES if state != "unknown"])
    before, after = ({link.name: draw(words) for link in document.links} for _time in range(2))
    return document, before, after


@given(outages())
def test_leading_away_goes_where_the_flow_goes(outage: tuple[Document, dict[str, str], dict[str, str]]) -> None:
    """Policy routes end as they shall be, nothing else is touched, and no policy is without a way it could have."""
    document, *states = outage
    was, will = (state_of(document, item) for item in states)
    tables = {document.settings.table(document.policy_ident(policy.name)) for policy in document.policies}
    operations = steering(was, will, document)
    state = was
    for operation in operations:
        assert operation.kind == "route"
        state = predict(state, [operation])
        for table in tables & ways(was) & ways(will):
            assert table in ways(state)
    assert {route for route in state.routes if route.table in tables} == {
        route for route in will.routes if route.table in tables
    }
    assert {route for route in state.routes if route.table not in tables} == {
        route for route in was.routes if route.table not in tables
    }


def ways(state: State) -> set[int]:
    return {route.table for route in state.routes if route.kind == "unicast"}


def test_a_pass_leads_away_first_and_tells_all_it_did() -> None:
    shown = router()
    converging = Converging(shown.ports)
    assert converging.run(order(shown, isp_a="up")).actions == []
    result = converging.run(order(shown, steer=True, isp_a="down"))
    assert result.actions[0].startswith("ip route replace default via 6.6.6.1 dev wan2")
    assert (result.trouble, result.loaded) == ("", False)
    assert result.state is not None
    assert shown.routing.routes() == result.state.routes
    assert json.loads(shown.files.texts[store.HEALTH])["links"]["isp_a"]["state"] == "down"
    assert converging.run(order(shown, isp_a="down")).actions == []


def test_health_is_written_before_anything_moves() -> None:
    shown = router()
    converging = Converging(shown.ports)
    converging.run(order(shown))
    seen: list[str] = []
    shown.faults.after_write = lambda: seen.append(shown.files.texts[store.HEALTH])
    converging.run(order(shown, steer=True, isp_a="down"))
    assert len(seen) > 1
    assert all('"down"' in text for text in seen)


def test_a_route_that_cannot_be_led_away_is_left_to_the_flow() -> None:
    shown = router()
    converging = Converging(shown.ports)
    converging.run(order(shown))
    # the second write is the first route, after the health document
    shown.faults.refuse = shown.faults.writes + 2
    result = converging.run(order(shown, steer=True, isp_a="down"))
    assert result.trouble == ""
    assert result.state is not None
    assert shown.routing.routes() == result.state.routes


def test_a_document_that_is_no_good_is_stood_in_for_and_left_as_it_is() -> None:
    shown = router()
    good = order(shown, isp_a="down")
    shown.files.texts[store.DOCUMENT] = "{"
    result = Converging(shown.ports).run(good)
    assert (result.trouble, shown.files.texts[store.DOCUMENT]) == ("", "{")
    assert any("dev wan2" in action for action in result.actions)


def test_what_a_run_would_store_does_not_take_the_place_of_a_document_that_is_no_good() -> None:
    """A device that comes late brings sysctls, whose values a run remembers in the document."""
    shown = ModelRouter(facts(wan2=None))
    apply(shown, TWO_LINKS)
    shown.set_facts(facts())
    good = order(shown)
    shown.files.texts[store.DOCUMENT] = "{"
    result = Converging(shown.ports).run(good)
    assert any("wan2/ignore_routes_with_linkdown" in action for action in result.actions)
    assert shown.files.texts[store.DOCUMENT] == "{"


def test_what_the_kernel_refuses_is_told() -> None:
    shown = router()
    shown.faults.refuse = shown.faults.writes + 2
    result = Converging(shown.ports).run(order(shown, isp_a="down"))
    assert "refused as told" in result.trouble
    assert (result.state, result.where) == (None, "")


def test_a_mistake_ends_the_pass_and_nothing_else() -> None:
    shown = router()
    converging = Converging(replace(shown.ports, routing=None))  # type: ignore[arg-type]
    result = converging.run(order(shown, isp_a="down"))
    assert result.trouble.startswith("AttributeError: ")
    assert "converging.py" in result.where


def test_nobody_but_others_contradicts_the_state_of_a_pass() -> None:
    shown = router()
    result: Any = Converging(shown.ports).run(order(shown, isp_a="suspect"))
    assert (result.state.routes, result.state.rules) == (shown.routing.routes(), shown.routing.rules())
