# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which choice a packet meets when the firewall classifies it, and what the others ask for that it has not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .firewall.choices import Choice, Condition, NetworkSet
from .rules import DSCP, PROTOCOLS
from .trace import Packet

PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
DSCP_NAMES = {number: name for name, number in DSCP.items()}
# as many networks and ranges as a reason names
SHOWN = 3


@dataclass(frozen=True)
class Flow:
    """The first packet of a connection with all that the firewall sees of it; None is not known, and matches nothing.

    `cgroup` is a path of the version 2 hierarchy, `moment` the day (0 is Monday) and minute in UTC.
    """

    packet: Packet
    dscp: int = 0
    mac: str | None = None
    group: int | None = None
    cgroup: str | None = None
    moment: tuple[int, int] | None = None


@dataclass(frozen=True)
class Asked:
    """What came of one choice: `refusal` is the condition that does not hold, None where the choice is taken."""

    choice: Choice
    refusal: str | None = None


def ask(choices: Iterable[Choice], flow: Flow, sets: Iterable[NetworkSet]) -> tuple[Asked, ...]:
    """The choices that are asked, in order; only the last may have been taken."""
    known, asked = {item.name: item for item in sets}, []
    for choice in choices:
        asked.append(Asked(choice, unmet(choice.condition, flow, known)))
        if asked[-1].refusal is None:
            break
    return tuple(asked)


def taken(asked: tuple[Asked, ...]) -> Choice | None:
    return asked[-1].choice if asked and asked[-1].refusal is None else None


def unmet(condition: Condition, flow: Flow, sets: Mapping[str, NetworkSet]) -> str | None:
    """The first condition that the flow does not meet, in words."""
    found = (*_addresses(condition, flow, sets), *_heads(condition, flow), *_owners(condition, flow))
    return next((words for words, met in found if not met), None)


def _addresses(condition: Condition, flow: Flow, sets: Mapping[str, NetworkSet]) -> Iterator[tuple[str, bool]]:
    packet = flow.packet
    for word, address, networks, name in (
        ("from", packet.source, condition.sources, condition.source_set),
        ("to", packet.destination, condition.destinations, condition.destination_set),
    ):
        if networks:
            yield f"{word} {_listed(networks)}", within(address, networks)
        if name and sets[name].external:
            yield f"{word} set {name}, which others fill", False
        elif name:
            yield f"{word} set {name}", within(address, sets[name].networks)


def _heads(condition: Condition, flow: Flow) -> Iterator[tuple[str, bool]]:
    packet = flow.packet
    if condition.device:
        yield f"in {condition.device}", condition.device == packet.device
    if condition.protocol is not None:
        yield (
            f"protocol {PROTOCOL_NAMES.get(condition.protocol, condition.protocol)}",
            condition.protocol == packet.protocol,
        )
    for word, ranges, port in (
        ("source port", condition.source_ports, packet.source_port),
        ("destination port", condition.destination_ports, packet.destination_port),
    ):
        if ranges:
            yield f"{word} {_listed(map(_range, ranges))}", _among(ranges, port)
    if condition.dscp is not None:
        yield f"dscp {DSCP_NAMES.get(condition.dscp, condition.dscp)}", condition.dscp == flow.dscp
    if condition.mac:
        yield f"mac {condition.mac}", condition.mac == flow.mac
    if condition.mark:
        value, mask = condition.mark
        yield f"mark 0x{value:x}/0x{mask:x}", packet.mark & mask == value
    if condition.times:
        yield "another time", _now(condition.times, flow.moment)


def _owners(condition: Condition, flow: Flow) -> Iterator[tuple[str, bool]]:
    if condition.user is not None:
        yield f"user {condition.user}", condition.user == flow.packet.user
    if condition.group is not None:
        yield f"group {condition.group}", condition.group == flow.group
    if condition.cgroup:
        yield f"cgroup {condition.cgroup[0]}", _inside(condition.cgroup[0], flow.cgroup)


def within(address: str | None, networks: Iterable[str]) -> bool:
    return address is not None and any(
        ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network) for network in networks
    )


def _among(ranges: Iterable[tuple[int, int]], number: int | None) -> bool:
    return number is not None and any(low <= number <= high for low, high in ranges)


def _now(times: Iterable[tuple[int, int, int]], moment: tuple[int, int] | None) -> bool:
    return moment is not None and any(day == moment[0] and low <= moment[1] < high for day, low, high in times)


def _inside(group: str, path: str | None) -> bool:
    """A group holds the processes of those below it, too (sock_cgroup_ptr, cgroup_is_descendant)."""
    return path is not None and f"{path}/".startswith(f"{group}/")


def _range(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


def _listed(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" or {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return " or ".join(listed[:SHOWN]) + more
