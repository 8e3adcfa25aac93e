# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""What the kernel tells of itself, as values, and how they are read from its messages (rtnetlink(7)). No I/O.

What nobody is told: IPv4 routes that go because their device, its address or its carrier goes. The event of the device
or the address has to be enough.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from socket import AF_INET, AF_UNSPEC
from typing import Union

from . import layout, messages, rtnl
from .kernel import MAIN, IpRule, Route

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR = 16, 17, 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEIGH, RTM_DELNEIGH, RTM_NEWRULE, RTM_DELRULE = 24, 25, 28, 29, 32, 33
RTN_UNICAST = 1
# Where the fields stand that tell, without decoding, whom a message concerns: all of them begin with the family.
FAMILY = rtnl.HEADER.size
ROUTE_LENGTH, ROUTE_TABLE, ROUTE_PROTOCOL = FAMILY + 1, FAMILY + 4, FAMILY + 5  # struct rtmsg
NEIGHBOUR_DEVICE = struct.Struct(f"={FAMILY + 4}xi")  # struct ndmsg
# linux/neighbour.h
NEIGHBOUR_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
# Messages may name a device that has gone a moment ago; of older ones the kernel does not speak any more.
GONE_DEVICES = 100


@dataclass(frozen=True)
class LinkEvent:
    """A watched device as it is now, told when that differs from what was told before. A renamed one is gone."""

    device: str
    present: bool
    up: bool
    carrier: bool


@dataclass(frozen=True)
class AddressEvent:
    """A watched device has got or lost a global address, or keeps it with other properties (a renewed lease)."""

    device: str
    address: str
    present: bool


@dataclass(frozen=True)
class NeighbourEvent:
    """What the kernel knows of a watched gateway.

    `state` is one of NEIGHBOUR_STATES, or "gone" when it forgot it; `mac` is in lower case, None where there is none.
    """

    device: str
    address: str
    state: str
    mac: str | None = None


@dataclass(frozen=True)
class OwnRuleEvent:
    """A rule with our protocol number was added or deleted, by us or by others."""

    rule: IpRule
    present: bool


@dataclass(frozen=True)
class OwnRouteEvent:
    """A route with our protocol number or in one of the watched tables was put there or deleted, by us or by others.

    One that replaces another is told as present, and the one replaced is not told.
    """

    route: Route
    present: bool


@dataclass(frozen=True)
class DefaultRouteEvent:
    """Somebody else put a default route over a watched device into table main, or deleted it."""

    device: str
    route: Route
    present: bool


@dataclass(frozen=True)
class Overrun:
    """Events were lost: everything has to be read anew. What is told from now on happened later than this."""


Event = Union[LinkEvent, AddressEvent, NeighbourEvent, OwnRuleEvent, OwnRouteEvent, DefaultRouteEvent, Overrun]


@dataclass(frozen=True)
class Watched:
    """What to tell of: devices by name (also ones that do not exist yet), gateways as (device, address), table ids.

    `legacy`: the firewall rules are in tables of legacy iptables, of which the kernel tells nobody.
    """

    devices: frozenset[str] = frozenset()
    gateways: frozenset[tuple[str, str]] = frozenset()
    tables: frozenset[int] = frozenset()
    legacy: bool = False


class Reader:
    """Makes events of messages. Keeps the names of devices, so that a message about a deleted one has one, too.

    `look_up` finds the name of a device by its index, None when there is none.
    """

    def __init__(self, watched: Watched, names: Mapping[int, str], look_up: Callable[[int], str | None]) -> None:
        self.watched = watched
        self._look_up = look_up
        self._readers: dict[int, Callable[[int, bytes], Iterator[Event]]] = {
            **dict.fromkeys((RTM_NEWLINK, RTM_DELLINK), self._link),
            **dict.fromkeys((RTM_NEWADDR, RTM_DELADDR), self._address),
            **dict.fromkeys((RTM_NEWNEIGH, RTM_DELNEIGH), self._neighbour),
            **dict.fromkeys((RTM_NEWROUTE, RTM_DELROUTE), self._route),
            **dict.fromkeys((RTM_NEWRULE, RTM_DELRULE), self._rule),
        }
        self.restart(names)

    def restart(self, names: Mapping[int, str]) -> None:
        """Forget everything but the names of the devices there are."""
        self._names = dict(names)
        self._gone: dict[int, str] = {}
        self._told: dict[str, LinkEvent] = {}

    def read(self, datagram: bytes) -> Iterator[Event]:
        for kind, _flags, _sequence, message in rtnl.split(datagram):
            if kind in self._readers:
                yield from self._readers[kind](kind, message)

    def _name(self, index: int) -> str:
        known = self._names.get(index) or self._gone.get(index)
        if known:
            return known
        name = self._look_up(index)
        if name:
            self._names[index] = name
        return name or f"if{index}"

    def _link(self, kind: int, octets: bytes) -> Iterator[Event]:
        """Bridges tell of their ports in a family of their own, and wireless devices of much without their carrier."""
        if octets[FAMILY] != AF_UNSPEC:
            return
        message = messages.decoded(messages.LINK, octets)
        device = messages.device(message)
        index, former = message["index"], self._names.get(message["index"], device.name)
        if kind == RTM_DELLINK or former != device.name:
            self._retire(index, former)
            yield from self._news(LinkEvent(former, False, False, False))
        if kind == RTM_NEWLINK and message.get_attr("IFLA_CARRIER") is not None:
            self._names[index] = device.name
            yield from self._news(LinkEvent(device.name, True, device.up, device.carrier))

    def _retire(self, index: int, name: str) -> None:
        self._names.pop(index, None)
        self._gone.pop(index, None)
        self._gone[index] = name
        if len(self._gone) > GONE_DEVICES:
            del self._gone[next(iter(self._gone))]

    def _news(self, event: LinkEvent) -> Iterator[Event]:
        if event.device in self.watched.devices and self._told.get(event.device) != event:
            self._told[event.device] = event
            yield event

    def _address(self, kind: int, octets: bytes) -> Iterator[Event]:
        message = messages.decoded(messages.ADDRESS, octets)
        address = messages.address(message, self._name)
        if message["scope"] == 0 and address.device in self.watched.devices:
            yield AddressEvent(address.device, address.address, kind == RTM_NEWADDR)

    def _neighbour(self, kind: int, octets: bytes) -> Iterator[Event]:
        device = self._name(NEIGHBOUR_DEVICE.unpack_from(octets)[0])
        if octets[FAMILY] != AF_INET or all(device != watched for watched, _address in self.watched.gateways):
            return
        message = messages.decoded(messages.NEIGHBOUR, octets)
        address, mac = message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")
        if (device, address) in self.watched.gateways:
            state = NEIGHBOUR_STATES.get(message["state"], "none") if kind == RTM_NEWNEIGH else "gone"
            yield NeighbourEvent(device, address, state, mac.lower() if mac else None)

    def _route(self, kind: int, octets: bytes) -> Iterator[Event]:
        if octets[FAMILY] != AF_INET or foreign_network(octets):
            return
        message = messages.decoded(messages.ROUTE, octets)
        present, table = kind == RTM_NEWROUTE, messages.route_table(message)
        if message["proto"] == layout.PROTOCOL or table in self.watched.tables:
            yield OwnRouteEvent(messages.route(message, self._name), present)
        elif (table, message["dst_len"], message["type"]) == (MAIN, 0, RTN_UNICAST):
            route = messages.route(message, self._name)
            for device in sorted({hop.device for hop in route.nexthops} & self.watched.devices):
                yield DefaultRouteEvent(device, route, present)

    def _rule(self, kind: int, octets: bytes) -> Iterator[Event]:
        message = messages.decoded(messages.RULE, octets)
        if octets[FAMILY] == AF_INET and messages.rule_protocol(message) == layout.PROTOCOL:
            yield OwnRuleEvent(messages.rule(message), kind == RTM_NEWRULE)


def foreign_network(octets: bytes) -> bool:
    """Whether a route of others leads to some network by table main, where routing daemons keep theirs."""
    return octets[ROUTE_TABLE] == MAIN and octets[ROUTE_LENGTH] != 0 and octets[ROUTE_PROTOCOL] != layout.PROTOCOL
