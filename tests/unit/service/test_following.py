# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is watched, what is ready, and which of the kernel's messages mean that somebody else was at work."""

from __future__ import annotations

from dataclasses import replace

from _mwan.desired import compile_state
from _mwan.document import Document
from _mwan.events import DefaultRouteEvent, LinkEvent, NeighbourEvent, OwnRouteEvent, OwnRuleEvent
from _mwan.health import Health
from _mwan.kernel import Facts, IpRule, Route
from _mwan.resolve import resolve
from _mwan.service.following import contradicts, gone, moved, readiness, watched, with_device
from unit.worlds import TWO_LINKS, facts

DOCUMENT = Document.parse({key: value for key, value in TWO_LINKS.items() if key != "probe"})
SEGMENT = Document.parse(
    {"links": [{"name": f"r{n}", "device": "seg0", "gateway": f"192.168.100.{n}"} for n in (1, 3)]}
)


def ready(name: str, seen: Facts) -> tuple[bool, str]:
    return readiness(resolve(DOCUMENT, seen)[name], seen)


def test_a_link_is_ready_when_nothing_is_missing() -> None:
    assert ready("isp_a", facts()) == (True, "")
    assert ready("isp_a", facts(wan1={"carrier": False})) == (False, "device wan1 has no carrier")
    assert ready("isp_a", facts(wan1={"up": False})) == (False, "device wan1 is down")
    assert ready("isp_a", facts(wan1=None)) == (False, "device wan1 does not exist")
    assert ready("isp_b", facts(wan1=None)) == (True, "")


def test_a_missing_address_or_gateway_may_be_back_in_a_moment_and_a_device_or_carrier_is_gone() -> None:
    for seen, expected in (
        (facts(), False),
        (replace(facts(), addresses=(), defaults={}), False),
        (facts(wan1={"carrier": False}), True),
        (facts(wan1={"up": False}), True),
        (facts(wan1=None), True),
    ):
        assert gone(resolve(DOCUMENT, seen)["isp_a"], seen) == expected
    assert not ready("isp_a", replace(facts(), addresses=()))[0]


def test_a_device_is_followed_by_its_events() -> None:
    removed = with_device(facts(), LinkEvent("wan1", False, False, False))
    assert ready("isp_a", removed)[1] == "device wan1 does not exist"
    dead = with_device(facts(), LinkEvent("wan1", True, True, False))
    assert ready("isp_a", dead)[1] == "device wan1 has no carrier"
    assert dead.devices["wan2"] == facts().devices["wan2"]
    assert with_device(dead, LinkEvent("wan1", True, True, True)) == facts()
    assert with_device(facts(), LinkEvent("wwan0", True, True, True)).devices["wwan0"].carrier


def test_what_is_watched() -> None:
    found = watched(DOCUMENT, resolve(DOCUMENT, facts()))
    assert found.devices == {"wan1", "wan2"}
    assert found.gateways == {("wan1", "5.5.5.1"), ("wan2", "6.6.6.1")}
    assert found.tables == {1001, 1002, 1003}


def test_a_gateway_with_another_address_matters_where_it_tells_links_apart() -> None:
    known = NeighbourEvent("seg0", "192.168.100.1", "reachable", "02:00:00:00:00:01")
    assert not moved(known, SEGMENT, facts())
    assert moved(replace(known, mac="02:00:00:00:00:99"), SEGMENT, facts())
    assert moved(NeighbourEvent("seg0", "192.168.100.3", "reachable", "02:00:00:00:00:03"), SEGMENT, facts())
    assert not moved(NeighbourEvent("seg0", "192.168.100.1", "failed"), SEGMENT, facts())
    assert not moved(NeighbourEvent("wan1", "5.5.5.1", "reachable", "02:00:00:00:00:05"), DOCUMENT, facts())


def test_our_own_work_contradicts_nothing_and_others_does() -> None:
    state = compile_state(DOCUMENT, facts(), Health()).state
    rule, route = min(state.rules, key=str), next(route for route in state.routes if len(route.nexthops) > 1)
    assert not contradicts(OwnRuleEvent(rule, True), state)
    assert not contradicts(OwnRouteEvent(route, True), state)
    assert contradicts(OwnRuleEvent(rule, False), state)
    assert contradicts(OwnRouteEvent(route, False), state)
    assert contradicts(OwnRouteEvent(replace(route, nexthops=route.nexthops[:1]), True), state)
    assert contradicts(OwnRouteEvent(replace(route, nexthops=route.nexthops[:1]), False), state), "of the same key"
    assert contradicts(OwnRuleEvent(IpRule(1300, 254), True), state)
    assert not contradicts(OwnRuleEvent(IpRule(1300, 254), False), state)
    assert not contradicts(OwnRouteEvent(Route(1001, metric=7), False), state)
    assert not contradicts(DefaultRouteEvent("wan1", route, True), state)
