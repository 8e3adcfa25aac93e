# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the firewall has to do for port forwards, free of any backend's syntax."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True)
class DestinationNat:
    """Lead new connections to `address` to another host; no two of them take the same.

    `device` is the one they come in by; None means: any that is no link's, and from the router itself. `mark` is the
    pin they must have, where links share the device. `sources` are networks, none for everybody. `protocol` None means
    all of them, and then there are no ports. `to` is first and last address, `to_ports` None where the port stays; a
    range is as long as `ports`, and each port gets its own. Replies to clients in `networks` would not come back by the
    router, so these, and the router itself, get its address as their source (only where `device` is None).
    """

    device: str | None
    mark: int | None
    sources: tuple[str, ...]
    address: str
    protocol: str | None
    ports: tuple[int, int] | None
    to: Pair
    to_ports: tuple[int, int] | None = None
    networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Return:
    """Connections from `network` (None: of the router itself) that were begun to `address` and led to hosts of `to`.

    They get the router's address as their source.
    """

    network: str | None
    address: str
    to: Pair


def returns(forwards: Iterable[DestinationNat]) -> tuple[Return, ...]:
    """What needs another source; of the same network and address, no host is in two of them."""
    hosts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for forward in forwards:
        for network in ("", *forward.networks) if forward.networks else ():
            low, high = (int(ipaddress.IPv4Address(address)) for address in forward.to)
            hosts.setdefault((network, forward.address), []).append((low, high))
    return tuple(
        Return(network or None, address, (str(ipaddress.IPv4Address(low)), str(ipaddress.IPv4Address(high))))
        for (network, address), ranges in sorted(hosts.items())
        for low, high in _joined(ranges)
    )


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return found
