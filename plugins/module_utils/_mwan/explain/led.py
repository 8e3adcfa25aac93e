# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a port forward leads a connection: after the firewall has chosen, and before it is routed."""

from __future__ import annotations

from dataclasses import replace

from ..asked import PROTOCOL_NAMES, within
from ..firewall.inbound import DestinationNat
from ..firewall.model import Firewall
from ..trace import Packet


def forward(firewall: Firewall, packet: Packet, pinned: int | None) -> DestinationNat | None:
    """The one that takes it; `pinned` is the mark of the link it came in by."""
    return next((item for item in firewall.dnat if _takes(item, firewall, packet, pinned)), None)


def led(packet: Packet, by: DestinationNat) -> Packet:
    """The packet on its way to the host; of several, the first stands for all."""
    port = packet.destination_port
    if by.ports and by.to_ports and port is not None:
        one_to_one = by.to_ports[0] != by.to_ports[1]
        port = by.to_ports[0] + (port - by.ports[0] if one_to_one else 0)
    return replace(packet, destination=by.to[0], destination_port=port)


def _takes(item: DestinationNat, firewall: Firewall, packet: Packet, pinned: int | None) -> bool:
    low, high = item.ports or (0, 0)
    comes_by = packet.device not in firewall.devices() if item.device is None else item.device == packet.device
    return (
        comes_by
        and item.mark in (None, pinned)
        and item.address == packet.destination
        and (not item.sources or within(packet.source, item.sources))
        and (item.protocol is None or item.protocol == PROTOCOL_NAMES.get(packet.protocol or 0))
        and (item.ports is None or (packet.destination_port is not None and low <= packet.destination_port <= high))
    )
