# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The way of a packet through rules and tables, as the kernel goes (tests/netns asks the kernel itself)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from _mwan.kernel import DEFAULT, LOCAL, MAIN, Device, IpRule, Nexthop, Route
from _mwan.trace import Fib, Packet, unmet
from hypothesis import given
from hypothesis import strategies as st
from unit import walk, worlds
from unit.model_kernel import ModelRouter

TO = Packet("7.7.7.7", "192.168.101.1", "lan0", protocol=6, source_port=40000, destination_port=443)
WAN1, WAN2 = Nexthop("wan1", "5.5.5.1", 3), Nexthop("wan2", "6.6.6.1")
DEVICES = {name: Device(name) for name in ("lan0", "wan1", "wan2")}


def fib(*routes: Route, rules: tuple[IpRule, ...] = (IpRule(10, 100),), **devices: Device) -> Fib:
    return Fib.of(rules, routes, {**DEVICES, **devices}, ignores_linkdown={"wan1"})


def decided(found: Fib, packet: Packet = TO) -> tuple[str, int] | None:
    trace = found.trace(packet)
    return (trace.found.kind, trace.found.route.metric) if trace.found else None


def test_nexthops_share_by_weight() -> None:
    assert fib(Route(100, nexthops=(WAN1, WAN2))).trace(TO).ways() == {WAN1: 0.75, WAN2: 0.25}


def test_longest_prefix_wins_and_then_the_lowest_metric() -> None:
    listed = [
        Route(100, metric=1, nexthops=(WAN1,)),
        Route(100, "7.7.0.0/16", 9, nexthops=(WAN1,)),
        Route(100, "7.7.7.0/24", 7, nexthops=(WAN1,)),
        Route(100, "7.7.7.0/24", 3, nexthops=(WAN2,)),
    ]
    assert decided(fib(*listed)) == ("unicast", 3)


@pytest.mark.parametrize(
    ("wan1", "way"),
    [
        (Device("wan1", up=False), WAN2),
        (Device("wan1", carrier=False), WAN2),
        (Device("other"), WAN1),
    ],
)
def test_dead_nexthops_are_passed_over(wan1: Device, way: Nexthop) -> None:
    found = fib(Route(100, metric=1, nexthops=(WAN1,)), Route(100, metric=2, nexthops=(WAN2,)), wan1=wan1)
    assert list(found.trace(TO).ways()) == [way]


def test_carrier_counts_only_where_the_kernel_is_told_to_look() -> None:
    unplugged = fib(Route(100, nexthops=(WAN2,)), wan2=Device("wan2", carrier=False))
    assert list(unplugged.trace(TO).ways()) == [WAN2]


def test_one_dead_nexthop_leaves_the_others_its_share() -> None:
    assert fib(Route(100, nexthops=(WAN1, WAN2)), wan1=Device("wan1", up=False)).trace(TO).ways() == {WAN2: 1.0}


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_a_refusal_ends_the_search_and_throw_does_not(kind: str) -> None:
    rules = (IpRule(10, 100), IpRule(20, 200))
    below = Route(200, nexthops=(WAN1,))
    assert decided(fib(Route(100, metric=5, kind=kind), below, rules=rules)) == (kind, 5)
    assert decided(fib(Route(100, metric=5, kind="throw"), below, rules=rules)) == ("unicast", 0)


def test_a_suppressing_rule_takes_networks_and_refusals_but_no_default() -> None:
    rules = (IpRule(10, MAIN, suppress_default=True), IpRule(20, 200))
    below = Route(200, metric=2, nexthops=(WAN2,))
    assert decided(fib(Route(MAIN, metric=1, nexthops=(WAN1,)), below, rules=rules)) == ("unicast", 2)
    assert decided(fib(Route(MAIN, "7.0.0.0/8", 1, nexthops=(WAN1,)), below, rules=rules)) == ("unicast", 1)
    assert decided(fib(Route(MAIN, DEFAULT, 1, kind="unreachable"), below, rules=rules)) == ("unreachable", 1)


def test_nothing_leads_there() -> None:
    trace = fib(rules=(IpRule(10, 100),)).trace(TO)
    assert (trace.decision, trace.found, trace.ways()) == (None, None, {})


def test_own_addresses_stay_when_their_device_is_down() -> None:
    own = Route(LOCAL, "5.5.5.5/32", kind="local", nexthops=(Nexthop("wan1"),))
    assert fib(own, wan1=Device("wan1", up=False)).local("5.5.5.5")
    assert not fib(own).local("5.5.5.6")


@pytest.mark.parametrize(
    ("match", "met"),
    [
        ({"source": "192.168.101.0/24"}, None),
        ({"source": "192.168.102.0/24"}, "from 192.168.102.0/24"),
        ({"destination": "7.7.7.8/32"}, "to 7.7.7.8/32"),
        ({"device": "lan0"}, None),
        ({"device": "lo"}, "in lo"),
        ({"mark": 0x100, "mask": 0x3F00}, "mark 0x100"),
        ({"protocol": 17}, "protocol 17"),
        ({"protocol": 6, "source_port": (40000, 40000)}, None),
        ({"protocol": 6, "source_port": (1, 39999)}, "source port 1-39999"),
        ({"protocol": 6, "destination_port": (443, 443)}, None),
        ({"protocol": 6, "destination_port": (80, 80)}, "destination port 80"),
    ],
)
def test_conditions_of_rules(match: dict[str, Any], met: str | None) -> None:
    steps = fib(Route(100, nexthops=(WAN1,)), rules=(IpRule(10, 100, **match),)).trace(TO).steps
    assert [step.refusal for step in steps] == [met]


def test_a_port_or_source_that_is_not_known_meets_no_condition() -> None:
    bare = Packet("7.7.7.7", protocol=6)
    for match in ({"source": "10.0.0.0/8"}, {"protocol": 6, "destination_port": (1, 65535)}):
        found = fib(Route(100, nexthops=(WAN1,)), rules=(IpRule(10, 100, **match),))
        assert found.trace(bare).decision is None
    assert fib(Route(100, nexthops=(WAN1,)), rules=(IpRule(10, 100, source="0.0.0.0/0"),)).trace(bare).decision


OWN = Packet("7.7.7.7", user=13)
A_AND_B = (Route(100, nexthops=(WAN1,)), Route(200, nexthops=(WAN2,)))


@pytest.mark.parametrize(
    ("match", "packet", "refusal"),
    [
        ({"user": (13, 13)}, OWN, None),
        ({"user": (10, 20)}, OWN, None),
        ({"user": (14, 20)}, OWN, "user 14-20"),
        ({"user": (14, 14)}, OWN, "user 14"),
        ({"user": (0, 99)}, replace(OWN, user=None), "user 0-99"),
        ({"user": (0, 0)}, TO, None),
        ({"user": (13, 13)}, replace(TO, user=13), "user 13"),
        ({"out_device": "wan1"}, replace(OWN, out_device="wan1"), None),
        ({"out_device": "wan1"}, replace(OWN, out_device="wan2"), "out wan1"),
        ({"out_device": "wan1"}, OWN, "out wan1"),
        ({"out_device": "wan1"}, replace(TO, out_device="wan1"), "out wan1"),
        ({"device": "lo", "inverted": True}, TO, None),
        ({"device": "lo", "inverted": True}, OWN, "anything but in lo"),
        ({"device": "lan0", "protocol": 17, "inverted": True}, TO, None),
        ({"device": "lan0", "protocol": 6, "inverted": True}, TO, "anything but in lan0 protocol 6"),
        ({"inverted": True}, TO, "anything but all"),
    ],
)
def test_conditions_of_users_devices_and_inverted_rules(
    match: dict[str, Any], packet: Packet, refusal: str | None
) -> None:
    assert unmet(IpRule(10, 100, **match), packet) == refusal


def goto(priority: int, target: int, **match: Any) -> IpRule:
    return IpRule(priority, 0, action="goto", target=target, **match)


def nop(priority: int) -> IpRule:
    return IpRule(priority, 0, action="nop")


@pytest.mark.parametrize(
    ("rules", "asked", "way"),
    [
        ((goto(10, 30), IpRule(20, 100), nop(30), IpRule(40, 200)), [10, 30, 40], WAN2),
        ((goto(10, 30), IpRule(20, 100), IpRule(30, 200)), [10, 30], WAN2),
        ((goto(10, 30, protocol=17), IpRule(20, 100), IpRule(30, 200)), [10, 20], WAN1),
        ((goto(10, 25), IpRule(20, 100), IpRule(30, 200)), [10, 20], WAN1),
        ((IpRule(5, 200, protocol=17), goto(10, 5), IpRule(20, 100)), [5, 10, 20], WAN1),
        ((goto(10, 20), goto(20, 40), IpRule(30, 100), nop(40), IpRule(50, 200)), [10, 20, 40, 50], WAN2),
        ((goto(10, 30, device="lo", inverted=True), IpRule(20, 100), nop(30), IpRule(40, 200)), [10, 30, 40], WAN2),
        ((goto(10, 30), IpRule(20, 100), IpRule(30, 200, protocol=17), IpRule(30, 200)), [10, 30, 30], WAN2),
        ((goto(10, 30), IpRule(20, 100), nop(30)), [10, 30], None),
    ],
)
def test_goto_passes_over_what_lies_between(rules: tuple[IpRule, ...], asked: list[int], way: Nexthop | None) -> None:
    trace = fib(*A_AND_B, rules=rules).trace(TO)
    assert [step.rule.priority for step in trace.steps] == asked
    assert list(trace.ways()) == ([way] if way else [])
    assert trace.decision == (trace.steps[-1] if way else None), "neither goto nor nop decides"


def test_for_a_bound_socket_nexthops_elsewhere_do_not_count() -> None:
    both = fib(
        Route(100, nexthops=(WAN1, WAN2)), Route(200, nexthops=(WAN2,)), rules=(IpRule(10, 100), IpRule(20, 200))
    )
    assert list(both.trace(replace(OWN, out_device="wan2")).ways()) == [WAN2]
    below = fib(*A_AND_B, rules=(IpRule(10, 100), IpRule(20, 200)))
    assert list(below.trace(replace(OWN, out_device="wan2")).ways()) == [WAN2]
    assert below.trace(replace(TO, out_device="wan2")).ways() == {WAN1: 1.0}, "nothing that is forwarded is bound"


def test_a_bound_socket_takes_the_first_of_several_nexthops_on_its_device() -> None:
    other = Nexthop("wan1", "5.5.5.2", 9)
    found = fib(Route(100, nexthops=(WAN2, WAN1, other)))
    assert found.trace(replace(OWN, out_device="wan1")).ways() == {WAN1: 1.0}


@pytest.mark.parametrize("routes", [(), (Route(100, kind="prohibit"),), (Route(100, kind="unreachable"),)])
def test_where_routing_refuses_a_bound_socket_takes_the_destination_to_be_near(routes: tuple[Route, ...]) -> None:
    bound = replace(OWN, out_device="wan1")
    found = fib(*routes, Route(200, nexthops=(WAN1,)), rules=(IpRule(10, 100), IpRule(20, 200)))
    on_link = {Nexthop("wan1"): 1.0}
    assert found.trace(bound).ways() == (on_link if routes else {WAN1: 1.0}), "a refusal ends the search all the same"
    alone = fib(*routes)
    assert alone.trace(bound).ways() == on_link
    assert fib(*routes, wan1=Device("wan1", up=False)).trace(bound).ways() == {}
    assert alone.trace(OWN).ways() == {}


def test_own_addresses_on_other_devices_are_not_local_to_a_bound_socket() -> None:
    own = fib(Route(LOCAL, "7.7.7.7/32", kind="local", nexthops=(Nexthop("lan0"),)), rules=(IpRule(0, LOCAL),))
    kinds = [own.trace(replace(OWN, out_device=name)).found for name in ("lan0", None, "wan1")]
    assert [found.kind if found else None for found in kinds] == ["local", "local", "unicast"]


packets = st.builds(
    walk.Packet,
    source=st.sampled_from(("192.168.101.1", "192.168.102.7", "10.1.1.1")),
    destination=st.sampled_from(("7.7.7.7", "8.8.8.8", "5.5.5.1", "192.168.101.9", "10.2.2.2")),
    protocol=st.sampled_from((6, 17)),
    port=st.sampled_from((443, 5500, 22)),
    device=st.sampled_from(("lan0", "lo")),
    mark=st.sampled_from((0, 0x100, 0x200, 0x300, 0x400)),
)


@given(worlds.wishes(), worlds.machines(), worlds.healths(), packets)
def test_goes_where_the_other_model_of_the_kernel_goes(
    wish: dict[str, Any], machine: dict[str, Any], health: dict[str, str], packet: walk.Packet
) -> None:
    router = ModelRouter(worlds.facts(**machine))
    worlds.set_health(router, health)
    worlds.apply(router, wish)
    others = router.routing.surroundings()
    devices = router.routing.seen.devices
    found = Fib.of(
        [*router.routing.rules(), *others.rules], [*router.routing.routes(), *others.routes], devices, devices
    ).trace(
        Packet(
            packet.destination,
            packet.source,
            packet.device,
            packet.mark,
            packet.protocol,
            source_port=40000,
            destination_port=packet.port,
        )
    )
    expected = walk.lookup(router, packet)
    assert (found.found.kind if found.found else "none") == expected.kind
    assert {(hop.device, hop.gateway) for hop in found.ways()} == set(expected.hops)
