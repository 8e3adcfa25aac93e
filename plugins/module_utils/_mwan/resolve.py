# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fill in what the administrator left to the router: the gateway and address each link has right now."""

from __future__ import annotations

from dataclasses import dataclass

from .document import Document
from .errors import InputError
from .kernel import Facts
from .model import AUTO, Link


@dataclass(frozen=True)
class ResolvedLink:
    """A link as it is now. `pending` says why it cannot carry traffic yet; then its other values may be None."""

    link: Link
    ident: int
    gateway: str | None = None
    address: str | None = None
    onlink: bool = False
    pending: str | None = None

    @property
    def name(self) -> str:
        return self.link.name

    @property
    def device(self) -> str:
        return self.link.device


def resolve(document: Document, facts: Facts) -> dict[str, ResolvedLink]:
    """Every declared link by name, in the order of ids."""
    links = [_resolve(link, document.link_ident(link.name), facts) for link in document.links]
    return {link.name: link for link in sorted(links, key=lambda item: item.ident)}


def _resolve(link: Link, ident: int, facts: Facts) -> ResolvedLink:
    device = facts.devices.get(link.device)
    if device is None:
        return ResolvedLink(link, ident, pending=f"device {link.device} does not exist")
    gateway = _gateway(link, facts)
    address = _address(link, gateway, facts)
    onlink = gateway is not None and not _reachable(gateway, link.device, facts)
    pending = None
    if not device.up:
        pending = f"device {link.device} is down"
    elif address is None:
        pending = "device {} has no address {}".format(link.device, "" if link.address == AUTO else link.address)
    elif link.gateway == AUTO and gateway is None and not device.point_to_point:
        pending = f"no gateway has been learned on {link.device}"
    return ResolvedLink(link, ident, gateway, address, onlink, pending.strip() if pending else None)


def _gateway(link: Link, facts: Facts) -> str | None:
    """The fixed gateway, or the one of the best default route somebody else (DHCP, RA, PPP) left for the device."""
    if link.gateway != AUTO:
        return link.gateway
    hops = [hop for route in facts.defaults.get(link.device, ()) for hop in route.nexthops if hop.device == link.device]
    return hops[0].gateway if hops else None


def _address(link: Link, gateway: str | None, facts: Facts) -> str | None:
    """The source address.

    The declared one if the device has it, else the device's one that reaches the gateway, else its first.
    """
    present = facts.addresses_of(link.device)
    if link.address != AUTO:
        return link.address if any(item.address == link.address for item in present) else None
    near = [item for item in present if gateway and item.covers(gateway)]
    chosen = near or list(present)
    return chosen[0].address if chosen else None


def _reachable(gateway: str, device: str, facts: Facts) -> bool:
    """Whether a connected network of the device, or the peer of its point-to-point address, covers the gateway."""
    return any(
        item.peer == gateway or (item.peer is None and item.covers(gateway)) for item in facts.addresses_of(device)
    )


def check_present(document: Document, facts: Facts) -> None:
    """Refuse what contradicts a device that is there.

    That is a fixed address it does not have, or an Ethernet link without gateway.
    """
    for link in document.links:
        device = facts.devices.get(link.device)
        if device is None:
            continue
        present = [item.address for item in facts.addresses_of(link.device)]
        if link.address != AUTO and present and link.address not in present:
            raise InputError(
                f"links.{link.name}.address",
                link.address,
                f"is not an address of {link.device}",
                "It has {}; configure the address there, or leave 'address' out to follow the device".format(
                    ", ".join(present)
                ),
            )
        if any(item.address == link.gateway for item in facts.addresses):
            raise InputError(
                f"links.{link.name}.gateway",
                link.gateway,
                "is an address of this router itself",
                "Give the address of the provider's router, which is the next hop",
            )
        if link.gateway is None and not device.point_to_point:
            raise InputError(
                f"links.{link.name}.gateway",
                None,
                f"is missing, and {link.device} is not a point-to-point device",
                "Give the gateway's address, or 'auto' to take what DHCP has learned",
            )
