# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a new connection's first packet: classified and then routed, or, of the router's own, the other way round.

Forwarded packets are asked by the choices before routing, led elsewhere by a port forward, and routed with the mark
they got. What the router itself sends is routed first, which gives it a source address, and asked then; a choice that
marks it has it routed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..asked import Asked, Flow, ask, taken, within
from ..balancing import HASHES, MULTIPATH
from ..firewall.choices import Choice, Chooser
from ..hashing import bucket_of
from ..kernel import Nexthop
from ..trace import ITSELF, Fib, Packet, Trace
from . import led
from .question import View


@dataclass(frozen=True)
class Path:
    """How a part (0 to 1) of the connections asked about goes in the end, and by which packet it was looked up.

    `first` is the trace before, where the router's own packet was looked up again; `asked` are the choices it met.
    """

    share: float
    packet: Packet
    trace: Trace
    first: Trace
    asked: tuple[Asked, ...] = ()

    @property
    def choice(self) -> Choice | None:
        return taken(self.asked)

    @property
    def chosen(self) -> Choice | None:
        """The choice that leads it; one that leaves it to routing does not."""
        choice = self.choice
        return choice if choice and (choice.chooser or choice.mark is not None) else None

    @property
    def deciding(self) -> Trace:
        """Where policy and links were chosen: what is looked up again only follows the address."""
        return self.trace if self.chosen else self.first


class Walk:
    """`pinned` is the mark of the link it came in by; `forward` the port forward that leads it elsewhere."""

    def __init__(self, view: View, fib: Fib, flow: Flow, pinned: int | None) -> None:
        self.view = view
        self.fib = fib
        self.flow = flow
        self.pinned = pinned
        self.classes = view.desired.firewall.classification
        self.forwards = flow.packet.device != ITSELF
        self.forward = led.forward(view.desired.firewall, flow.packet, pinned) if self.forwards else None

    def paths(self) -> list[Path]:
        """All of them, the greatest part first."""
        found = list(self._forwarded() if self.forwards else self._own())
        return sorted(found, key=lambda path: -path.share)

    def spared(self) -> str | None:
        """Why the firewall asks none of its choices, if that is so where it has any."""
        packet, mask = self.flow.packet, self.view.desired.firewall.mask
        if not self.classes:
            return "rules are told apart by policy routing"
        if self.pinned is not None:
            return "it is pinned"
        if packet.mark & mask:
            return f"it has a packet mark within 0x{mask:x}"
        found = self.fib.trace(replace(packet, mark=0)).found
        near = found is not None and found.kind in ("local", "broadcast")
        if near or within(packet.destination, self.classes.excluded):
            return f"{packet.destination} is this router's, or on a network that is connected to it"
        return None

    def _forwarded(self) -> Iterator[Path]:
        packet = self.flow.packet
        asked = () if self.spared() else ask(self.classes.forwarded, self.flow, self.classes.sets)
        choice = taken(asked)
        for mark, share in self._marks(choice).items() if choice else ((0, 1.0),):
            sent = self._marked(packet, mark)
            sent = led.led(sent, self.forward) if self.forward else sent
            trace = self.fib.trace(sent)
            yield Path(share, sent, trace, trace, asked)

    def _marked(self, packet: Packet, mark: int) -> Packet:
        """With these of our bits; those of others stay."""
        return replace(packet, mark=packet.mark & ~self.view.desired.firewall.mask | mark) if mark else packet

    def _marks(self, choice: Choice) -> dict[int, float]:
        """The packet marks that a choice gives, and to which part."""
        if choice.chooser is None:
            return {choice.mark or 0: 1.0}
        chooser = self.classes.chooser(choice.chooser)
        if chooser.algorithm == MULTIPATH or not chooser.ways:
            return {chooser.mark: 1.0}
        if chooser.algorithm in HASHES:
            return self._hashed(chooser)
        total = sum(way.weight for way in chooser.ways)
        return {way.mark: way.weight / total for way in chooser.ways}

    def _hashed(self, chooser: Chooser) -> dict[int, float]:
        """One link where the hash can be worked out, or else the parts of the buckets."""
        packet, backend = self.flow.packet, self.view.document.backend
        if packet.source:
            bucket = bucket_of(backend, chooser.algorithm, packet.source, packet.destination)
            if bucket is not None:
                return {mark: 1.0 for low, high, mark in chooser.buckets if low <= bucket <= high}
        total = sum(high + 1 - low for low, high, _mark in chooser.buckets)
        parts: dict[int, float] = {}
        for low, high, mark in chooser.buckets:
            parts[mark] = parts.get(mark, 0.0) + (high + 1 - low) / total
        return parts

    def _own(self) -> Iterator[Path]:
        for path in self._asked_again():
            flow = replace(self.flow, packet=path.packet)
            # what is refused is never sent, so nothing asks it
            sent = bool(path.trace.ways()) and not self.spared()
            asked = ask(self.classes.own, flow, self.classes.sets) if sent else ()
            yield self._marked_late(replace(path, asked=asked))

    def _marked_late(self, path: Path) -> Path:
        if path.chosen is None:
            return path
        marked = self._marked(path.packet, path.chosen.mark or 0)
        return replace(path, packet=marked, trace=self.fib.trace(marked))

    def _asked_again(self) -> Iterator[Path]:
        """The traces before the firewall sees it, and which part of new connections each is for.

        What the router itself sends without an address of its own is looked up again with the address that the first
        route gives it (ip_route_connect), and that may lead elsewhere.
        """
        packet = self.flow.packet
        first = self.fib.trace(packet)
        if packet.source or not first.ways():
            yield Path(1.0, packet, first, first)
            return
        found: dict[tuple[Packet, Trace], float] = {}
        for hop, share in first.ways().items():
            addressed = replace(packet, source=own_address(self.view, first, hop))
            key = addressed, self.fib.trace(addressed)
            found[key] = found.get(key, 0.0) + share
        for (addressed, trace), share in found.items():
            yield Path(share, addressed, trace, first)


def own_address(view: View, trace: Trace, hop: Nexthop) -> str | None:
    """The source the kernel gives: the route's, else the device's address near the gateway (inet_select_addr)."""
    chosen = trace.found.route.source if trace.found else None
    return chosen or address_near(view, hop)


def address_near(view: View, hop: Nexthop) -> str | None:
    present = view.facts.addresses_of(hop.device)
    near = [item.address for item in present if hop.gateway and item.covers(hop.gateway)]
    return next(iter([*near, *(item.address for item in present)]), None)
