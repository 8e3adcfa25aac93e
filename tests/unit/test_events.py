# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is read from the kernel's notifications, on captured ones."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable

import pytest
from _mwan.events import (
    GONE_DEVICES,
    AddressEvent,
    DefaultRouteEvent,
    Event,
    LinkEvent,
    NeighbourEvent,
    OwnRouteEvent,
    OwnRuleEvent,
    Reader,
    Watched,
)
from _mwan.kernel import IpRule, Nexthop, Route
from unit.captured import CAPTURED

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the captured messages are little-endian")

WATCHED = Watched(frozenset({"wan1"}), frozenset({("wan1", "5.5.5.1")}), frozenset({1003}))
UP, NO_CARRIER = LinkEvent("wan1", True, True, True), LinkEvent("wan1", True, True, False)
GONE = LinkEvent("wan1", False, False, False)
OWN_ROUTE = Route(1003, metric=1, nexthops=(Nexthop("wan1", "5.5.5.1", weight=3), Nexthop("wan1", "5.5.5.2", weight=1)))
OWN_RULE = IpRule(1001, 1001, mark=0x100, mask=0xFF00)
LEASED = Route(254, metric=100, nexthops=(Nexthop("wan1", "5.5.5.1"),))


def nobody(_index: int) -> None:
    return None


def read(*names: str, watched: Watched = WATCHED, known: dict[int, str] | None = None) -> list[Event]:
    reader = Reader(watched, {101: "wan1"} if known is None else known, nobody)
    return [event for name in names for event in reader.read(CAPTURED[name])]


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("wan1 has carrier", UP),
        ("wan1 has no carrier", NO_CARRIER),
        ("wan1 deleted", GONE),
        ("wan1 renamed", GONE),
        ("address added", AddressEvent("wan1", "5.5.5.5", True)),
        ("address with a peer", AddressEvent("wan1", "11.1.1.1", True)),
        ("address deleted", AddressEvent("wan1", "11.1.1.1", False)),
        ("gateway reachable", NeighbourEvent("wan1", "5.5.5.1", "reachable", "02:00:00:00:00:0a")),
        ("gateway failed", NeighbourEvent("wan1", "5.5.5.1", "failed")),
        ("gateway gone", NeighbourEvent("wan1", "5.5.5.1", "gone")),
        ("default of others", DefaultRouteEvent("wan1", LEASED, True)),
        ("default of others deleted", DefaultRouteEvent("wan1", LEASED, False)),
        ("own route", OwnRouteEvent(OWN_ROUTE, True)),
        ("own route deleted", OwnRouteEvent(OWN_ROUTE, False)),
        ("own rule", OwnRuleEvent(OWN_RULE, True)),
        ("own rule deleted", OwnRuleEvent(OWN_RULE, False)),
    ],
)
def test_told(name: str, event: Event) -> None:
    assert read(name) == [event]


@pytest.mark.parametrize("name", ["network of others", "rule of others", "wan1 left a bridge"])
def test_not_told(name: str) -> None:
    assert read(name) == []


def test_what_is_not_watched_is_not_told() -> None:
    told = read(*CAPTURED, watched=Watched())
    assert {type(event) for event in told} == {OwnRouteEvent, OwnRuleEvent}
    assert read("gateway failed", watched=Watched(gateways=frozenset({("wan1", "5.5.5.2"), ("wan2", "5.5.5.1")}))) == []


def test_route_of_others_in_a_watched_table() -> None:
    watched = Watched(tables=frozenset({254}))
    assert read("default of others", watched=watched) == [OwnRouteEvent(LEASED, True)]


def test_a_device_is_told_when_it_differs() -> None:
    names = ["wan1 has carrier", "wan1 has carrier", "wan1 has no carrier", "wan1 deleted", "wan1 has no carrier"]
    assert read(*names) == [UP, NO_CARRIER, GONE, NO_CARRIER]


def test_a_deleted_device_keeps_its_name_for_a_while() -> None:
    assert read("wan1 deleted", "address deleted") == [GONE, AddressEvent("wan1", "11.1.1.1", False)]
    assert read("wan1 deleted", "address deleted", known={}) == [GONE, AddressEvent("wan1", "11.1.1.1", False)]
    later = [deleted_as(index) for index in range(1000, 1000 + GONE_DEVICES)]
    assert read_all([CAPTURED["wan1 deleted"], *later[1:], CAPTURED["address deleted"]])[-1] != GONE
    assert read_all([CAPTURED["wan1 deleted"], *later, CAPTURED["address deleted"]])[-1] == GONE


def deleted_as(index: int) -> bytes:
    """The deletion of wan1 under another index."""
    message = bytearray(CAPTURED["wan1 deleted"])
    struct.pack_into("=i", message, 20, index)
    return bytes(message)


def read_all(datagrams: Iterable[bytes]) -> list[Event]:
    reader = Reader(WATCHED, {101: "wan1"}, nobody)
    return [event for datagram in datagrams for event in reader.read(datagram)]


def test_unknown_devices_are_looked_up() -> None:
    asked: list[int] = []

    def look_up(index: int) -> str:
        asked.append(index)
        return "wan1"

    reader = Reader(WATCHED, {}, look_up)
    for _turn in range(2):
        assert list(reader.read(CAPTURED["address added"])) == [AddressEvent("wan1", "5.5.5.5", True)]
    assert asked == [101]
    assert read("address added", known={}) == []


def test_a_datagram_may_hold_several_messages() -> None:
    both = CAPTURED["own rule"] + CAPTURED["rule of others"] + CAPTURED["own rule deleted"]
    assert read_all([both]) == [OwnRuleEvent(OWN_RULE, True), OwnRuleEvent(OWN_RULE, False)]


def test_other_messages_are_passed_over() -> None:
    assert read_all([struct.pack("=IHHII", 16, 3, 0, 0, 0), CAPTURED["own rule"]]) == [OwnRuleEvent(OWN_RULE, True)]


def test_after_a_restart_everything_is_news() -> None:
    reader = Reader(WATCHED, {101: "wan1"}, nobody)
    for _turn in range(2):
        assert list(reader.read(CAPTURED["wan1 has carrier"])) == [UP]
        reader.restart({101: "wan1"})
