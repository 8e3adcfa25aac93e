# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From declared port forwards and the addresses that links have now to what the firewall translates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Optional

from .document import Document
from .firewall.inbound import DestinationNat
from .forwards import Dnat, overlaps, refuse
from .kernel import Facts
from .resolve import ResolvedLink, resolve

# a link, and an address that connections come to over it; no link: from elsewhere
_Entry = tuple[Optional[ResolvedLink], str]


class Inbound:
    """The forwards of a document, by the facts."""

    def __init__(self, document: Document, facts: Facts, links: Mapping[str, ResolvedLink]) -> None:
        self.document = document
        self.facts = facts
        self.links = links
        self.own = {item.address for item in facts.addresses}
        placed = ((_place(entry), forward) for forward in document.dnat for entry in self._entries(forward))
        # those that take the same since a link has an address that another forward names
        self.overlaps = tuple(overlaps(placed))

    def warnings(self) -> Iterator[str]:
        for (link, address), earlier, later in self.overlaps:
            where = f"to {address} on {link}" if link else f"from elsewhere to {address}"
            yield f"forward {later.name} has no effect {where} as long as {earlier.name} takes the same"

    def destination_nat(self) -> tuple[DestinationNat, ...]:
        """In the order they are declared; where two overlap, only the first."""
        return tuple(dict.fromkeys(nat for forward in self.document.dnat for nat in self._translations(forward)))

    def _entries(self, forward: Dnat) -> Iterator[_Entry]:
        """Each link with each of its addresses, or with the one that is named."""
        links = [link for link in self.links.values() if forward.link in (None, link.name)]
        entries = [(link, address) for link in links for address in self._addresses(forward, link)]
        yield from entries
        if forward.hairpin:
            yield from dict.fromkeys((None, address) for _link, address in entries)

    def _addresses(self, forward: Dnat, link: ResolvedLink) -> tuple[str, ...]:
        """A link that has its device to itself holds all of the device's addresses."""
        if forward.address:
            return (forward.address,)
        if self.document.shares_device(link.link):
            return (link.address,) if link.address else ()
        return tuple(item.address for item in self.facts.addresses_of(link.device))

    def _translations(self, forward: Dnat) -> Iterator[DestinationNat]:
        ineffective = {place for place, _earlier, later in self.overlaps if later is forward}
        for link, address in self._entries(forward):
            if _place((link, address)) in ineffective:
                continue
            told_by_pin = link is not None and forward.link and self.document.shares_device(link.link)
            for protocol in forward.protocols or (None,):
                yield DestinationNat(
                    device=link.device if link else None,
                    mark=self.document.settings.mark(link.ident) if link and told_by_pin else None,
                    sources=forward.sources,
                    address=address,
                    protocol=protocol,
                    ports=forward.ports,
                    to=forward.to,
                    to_ports=forward.to_ports,
                    networks=() if link else self._networks(forward),
                )

    def _networks(self, forward: Dnat) -> tuple[str, ...]:
        """The connected networks of its hosts; none where these are the router itself."""
        low, high = map(ipaddress.IPv4Address, forward.to)
        if forward.to[0] in self.own:
            return ()
        connected = {ipaddress.IPv4Network(item.network) for item in self.facts.addresses if not item.peer}
        near = (item for item in connected if item[0] <= high and low <= item[-1] and item.num_addresses > 1)
        return tuple(map(str, ipaddress.collapse_addresses(near)))


def check_forwards(document: Document, facts: Facts) -> None:
    """Refuse what takes the same as another by the addresses that links have; raises InputError."""
    refuse(Inbound(document, facts, resolve(document, facts)).overlaps)


def _place(entry: _Entry) -> tuple[str, str]:
    link, address = entry
    return link.name if link else "", address
