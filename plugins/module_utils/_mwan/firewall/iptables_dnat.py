# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Port forwards as x_tables rules. The lists are linear, but only the first packet of a connection is asked.

Ports that change one to one need a base port (NF_NAT_RANGE_PROTO_OFFSET, DNAT revision 2, Linux 4.18): of a range
without one, the kernel picks a port by hash.
"""

from __future__ import annotations

from collections.abc import Iterator

from .inbound import DestinationNat, Return, returns
from .model import Firewall
from .xtables import Extension, Rule, connmark

# python-iptables has no name for it
_PROTOCOLS = {"dccp": "33"}


def destinations(firewall: Firewall) -> Iterator[Rule]:
    """What comes in by a link asks MWAN_DNAT only; MWAN_HAIRPIN is for the others, and for the router itself."""
    for forward in firewall.dnat:
        if forward.device:
            pin = () if forward.mark is None else (connmark(forward.mark, firewall.mask),)
            yield from _translations("MWAN_DNAT", forward, pin)
    elsewhere = [forward for forward in firewall.dnat if forward.device is None]
    for device in firewall.devices() if elsewhere else ():
        yield Rule("MWAN_DNAT", Extension("RETURN"), in_device=device)
    if elsewhere:
        yield Rule("MWAN_DNAT", Extension("MWAN_HAIRPIN"))
    for forward in elsewhere:
        yield from _translations("MWAN_HAIRPIN", forward)


def sources(firewall: Firewall) -> Iterator[Rule]:
    """The router's address for those whom replies would not reach by the router."""
    for item in returns(firewall.dnat):
        begun = Extension("conntrack", (("ctstate", "DNAT"), ("ctorigdst", item.address)))
        own = () if item.network else (Extension("addrtype", (("src-type", "LOCAL"),)),)
        yield Rule("MWAN_SNAT", Extension("MASQUERADE"), (begun, *_hosts(item), *own), source=item.network)


def _hosts(item: Return) -> tuple[Extension, ...]:
    return (Extension("iprange", (("dst-range", "{}-{}".format(*item.to)),)),)


def _translations(chain: str, forward: DestinationNat, pin: tuple[Extension, ...] = ()) -> Iterator[Rule]:
    protocol = forward.protocol
    ports = () if protocol is None else (Extension(protocol, (("dport", _ports(forward.ports)),)),)
    for source in forward.sources or (None,):
        yield Rule(
            chain,
            Extension("DNAT", (("to-destination", _to(forward)),)),
            (*pin, *ports),
            protocol=_PROTOCOLS.get(protocol, protocol) if protocol else None,
            source=source,
            destination=forward.address,
            in_device=forward.device,
        )


def _ports(ports: tuple[int, int] | None) -> str:
    low, high = ports or (0, 65535)
    return str(low) if low == high else f"{low}:{high}"


def _to(forward: DestinationNat) -> str:
    """As iptables takes it: ADDRESS[-ADDRESS][:PORT[-PORT/BASE]]."""
    hosts = forward.to[0] if forward.to[0] == forward.to[1] else "{}-{}".format(*forward.to)
    if forward.to_ports is None or forward.ports is None:
        return hosts
    low, high = forward.to_ports
    return f"{hosts}:{low}" if low == high else f"{hosts}:{low}-{high}/{forward.ports[0]}"
