# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from the document and the kernel's facts: what to watch, what is ready, what others changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..desired import table_names
from ..document import Document
from ..events import Event, LinkEvent, NeighbourEvent, OwnRouteEvent, OwnRuleEvent, Watched
from ..kernel import Device, Facts, State
from ..resolve import ResolvedLink


def watched(document: Document, links: Mapping[str, ResolvedLink]) -> Watched:
    """What the kernel is to tell of: the links' devices and gateways, and our tables."""
    return Watched(
        devices=frozenset(link.device for link in document.links),
        gateways=frozenset((link.device, link.gateway) for link in links.values() if link.gateway),
        tables=frozenset(table_names(document)),
        legacy=document.backend == "iptables",
    )


def readiness(link: ResolvedLink, facts: Facts) -> tuple[bool, str]:
    """Whether the kernel has all that the link needs, or else what is missing."""
    if link.pending:
        return False, link.pending
    if not facts.devices[link.device].carrier:
        return False, f"device {link.device} has no carrier"
    return True, ""


def gone(link: ResolvedLink, facts: Facts) -> bool:
    """Whether the device or its carrier is missing; an address or a gateway may be back in a moment: whoever sets the
    network up anew takes it away first."""
    device = facts.devices.get(link.device)
    return device is None or not device.up or not device.carrier


def with_device(facts: Facts, event: LinkEvent) -> Facts:
    """The facts after a device came, went, or changed."""
    devices = dict(facts.devices)
    if event.present:
        before = devices.get(event.device, Device(event.device))
        devices[event.device] = replace(before, up=event.up, carrier=event.carrier)
    else:
        devices.pop(event.device, None)
    return replace(facts, devices=devices)


def moved(event: NeighbourEvent, document: Document, facts: Facts) -> bool:
    """Whether a gateway has another link-layer address than before, and links on its device are told apart by that."""
    known = facts.neighbours.get((event.device, event.address))
    shared = sum(link.device == event.device for link in document.links) > 1
    return shared and event.mac is not None and event.mac != known


def contradicts(event: Event, state: State) -> bool:
    """Whether a rule or a route of ours is not, or is no longer, as it was set; only others do that."""
    if isinstance(event, OwnRuleEvent):
        return event.present != (event.rule in state.rules)
    if isinstance(event, OwnRouteEvent):
        if event.present:
            return event.route not in state.routes
        return any(event.route.key == route.key for route in state.routes)
    return False
