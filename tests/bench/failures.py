# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The kinds of failures that are measured. Each takes effect with one call, so that its moment is known."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..lab.impair import Impairment, black_hole, cable_pulled
from ..lab.topology import Topology, Uplink

Failure = Callable[[Topology, str], Impairment]
# A network is changed by one thread at a time.
_cabling = threading.Lock()


def gateway_dead(topology: Topology, link: str) -> Impairment:
    """The provider's device takes nothing in any more, ARP included, while the carrier stays."""
    uplink = topology.uplinks[link]
    table = f"netdev deaf_{uplink.customer_device}"
    hook = f'type filter hook ingress device "{uplink.customer_device}" priority 0; policy drop;'
    uplink.provider.nft(f"table {table} {{\n chain taken_in {{\n {hook}\n }}\n}}")
    return Impairment(lambda: uplink.provider.nft(f"delete table {table}"))


def address_removed(topology: Topology, link: str) -> Impairment:
    uplink = topology.uplinks[link]
    address = f"{uplink.address}/24 dev {uplink.device}"
    topology.router.ip(f"addr del {address}")
    return Impairment(lambda: topology.router.ip(f"addr add {address}"))


def device_removed(topology: Topology, link: str) -> Impairment:
    """The device is deleted, as that of a PPP session which ends; undone, there is a new one of that name."""
    uplink = topology.uplinks[link]
    topology.router.ip(f"link del {uplink.device}")
    return Impairment(lambda: _plug_in_again(topology, uplink))


def _plug_in_again(topology: Topology, uplink: Uplink) -> None:
    lab = topology.lab
    with _cabling:
        lab.connect(topology.router, uplink.device, uplink.provider, uplink.customer_device)
        ends = (
            (uplink.provider, uplink.customer_device, uplink.gateway),
            (topology.router, uplink.device, uplink.address),
        )
        for host, device, address in ends:
            lab.configure(host, [f"addr add {address}/24 dev {device}", f"link set {device} up"])
        lab.settle()


FAILURES: dict[str, Failure] = {
    "carrier lost": cable_pulled,
    "black hole": black_hole,
    "gateway dead": gateway_dead,
    "device removed": device_removed,
    "address removed": address_removed,
}
# Nothing tells the router of these.
SILENT = frozenset(("black hole", "gateway dead"))
