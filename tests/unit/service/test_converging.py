# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One pass: that leading away first goes where the whole flow goes, and what a bad document or a mistake does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from _mwan import store
from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.errors import KernelError
from _mwan.flow import converge
from _mwan.health import STATES, Health
from _mwan.kernel import Pin, State
from _mwan.plan import predict
from _mwan.service.converging import Converging, Order
from _mwan.service.steering import steering
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
    document, before, after = outage
    links = compile_state(document, facts(), Health(before)).links
    pins = {
        name: Pin(document.settings.mark(link.ident), (link.address,) if link.address else ())
        for name, link in links.items()
    }
    was, will = replace(state_of(document, before), pins=pins), state_of(document, after)
    tables = policy_tables(document) & {rule.table for rule in was.rules}
    operations = [item for changes in steering(was, document, facts(), Health(after)) for item in changes]
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


def policy_tables(document: Document) -> set[int]:
    return {document.settings.table(document.policy_ident(policy.name)) for policy in document.policies}


def ways(state: State) -> set[int]:
    return {route.table for route in state.routes if route.kind == "unicast"}


def led_to(shown: ModelRouter) -> set[str]:
    """The devices that policies lead new connections to."""
    tables = policy_tables(store.load_document(shown.files))
    return {hop.device for route in shown.routing.routes() if route.table in tables for hop in route.nexthops}


@pytest.fixture
def outage() -> tuple[ModelRouter, Converging]:
    """isp_a is down, and the router is as it shall be then."""
    shown = router()
    converging = Converging(shown.ports)
    assert converging.run(order(shown, isp_a="down")).trouble == ""
    assert led_to(shown) == {"wan2"}
    return shown, converging


@contextmanager
def hanging(shown: ModelRouter) -> Iterator[None]:
    """nft does not come to an end."""

    def listing() -> str:
        raise KernelError("run", "nft", "it did not end")

    shown.nftables.listing = listing  # type: ignore[method-assign]
    yield
    del shown.nftables.listing


def test_links_are_changed_while_every_pass_fails(outage: tuple[ModelRouter, Converging]) -> None:
    """There and back, and there again."""
    shown, converging = outage
    with hanging(shown):
        for states, devices in (
            ({"isp_a": "up"}, {"wan1", "wan2"}),
            ({"isp_b": "down"}, {"wan1"}),
            ({"isp_a": "down"}, {"wan2"}),
        ):
            result = converging.run(order(shown, steer=True, **states))
            assert ("run nft" in result.trouble, led_to(shown)) == (True, devices)
    assert converging.run(order(shown, isp_a="down")).trouble == ""
    assert led_to(shown) == {"wan2"}


def test_a_link_that_lost_its_table_is_led_to_again_by_the_whole_flow(outage: tuple[ModelRouter, Converging]) -> None:
    shown, converging = outage
    document = store.load_document(shown.files)
    table = document.settings.table(document.link_ident("isp_a"))
    for key in [key for key, (route, _by) in shown.routing.rib.items() if route.table == table]:
        del shown.routing.rib[key]
    with hanging(shown):
        converging.run(order(shown, steer=True, isp_a="up"))
        assert led_to(shown) == {"wan2"}, "something serves, and this may not"
        converging.run(order(shown, steer=True, isp_a="up", isp_b="down"))
        assert led_to(shown) == {"wan1"}, "it is all there is"
        assert table in ways(State(shown.routing.routes()))
    assert converging.run(order(shown, isp_b="down")).trouble == ""


def test_health_that_cannot_be_written_is_told_and_stops_nothing() -> None:
    shown = router()
    converging = Converging(shown.ports)
    converging.run(order(shown))
    write = shown.files.write

    def full(path: str, text: str | None, mode: int = 0o644) -> None:
        if path == store.HEALTH:
            raise KernelError("write", path, "No space left on device")
        write(path, text, mode)

    shown.files.write = full  # type: ignore[method-assign]
    result = converging.run(order(shown, isp_a="down"))
    assert "No space left" in result.trouble
    assert result.state is not None
    assert led_to(shown) == {"wan2"}, "not by what the file said before"


def test_steering_waits_for_nobody_who_holds_the_lock() -> None:
    shown = router()
    Converging(shown.ports).run(order(shown))

    def held() -> Any:
        assert led_to(shown) == {"wan2"}
        raise KernelError("lock", "the lock", "held")

    result = Converging(replace(shown.ports, lock=held)).run(order(shown, steer=True, isp_a="down"))
    assert "the lock: held" in result.trouble


def test_a_run_that_ends_after_a_link_died_does_not_lead_back_to_it() -> None:
    """Its plan was made while the link was up, and a pass beside it leads away."""
    shown = router()
    converging = Converging(shown.ports)
    converging.run(order(shown))
    shown.sysctl.values["net/ipv4/ip_forward"] = "0"

    def died() -> None:
        shown.faults.after_write = None
        converging.steer(replace(order(shown, steer=True, isp_a="down"), version=2))

    shown.faults.after_write = died
    converge(shown.ports, lambda stored: stored, strict=False)
    assert led_to(shown) == {"wan2"}


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


def test_a_route_that_cannot_be_led_away_is_left_to_the_flow() -> None:
    shown = router()
    converging = Converging(shown.ports)
    converging.run(order(shown))
    shown.faults.refuse = shown.faults.writes + 1
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
