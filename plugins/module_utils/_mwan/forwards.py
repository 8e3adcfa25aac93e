# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Port forwards as they are declared: what is begun to an address of a link is led to a host behind the router."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from . import values
from .errors import InputError
from .model import AUTO, Link
from .rules import PORT_PROTOCOLS

Ports = tuple[int, int]
Place = TypeVar("Place", bound=Hashable)

# each port that changes by itself is an entry of its own
MOST_MAPPED = 256
EVERY_PORT = (0, 65535)
LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


@dataclass(frozen=True)
class Dnat:
    """One forward. Empty `protocols` means all of them, and then there are no ports.

    `link` None: whichever the connection comes in by; `address` None: those of the link, as they are now. `to` is first
    and last address, alike for a single host. `to_ports` None: as it came. `sources` are networks, none for everybody.
    """

    name: str
    link: str | None
    protocols: tuple[str, ...]
    address: str | None
    ports: Ports | None
    to: tuple[str, str]
    to_ports: Ports | None
    sources: tuple[str, ...]
    hairpin: bool

    KEYS = ("name", "link", "protocol", "address", "port", "to", "to_port", "source", "hairpin")

    @property
    def key(self) -> str:
        return self.name

    @classmethod
    def parse(cls, option: str, data: Any) -> Dnat:
        data = values.only_keys(option, data, cls.KEYS)
        if "to" not in data:
            raise InputError(option + ".to", None, "is missing", "Give the address of the host that is to answer")
        protocols = _protocols(option + ".protocol", _listed(data, "protocol"))
        ports = values.ports(option + ".port", data["port"]) if "port" in data else None
        _check_protocol(option, protocols, ports)
        return cls(
            name=values.name(option + ".name", data.get("name")),
            link=values.name(option + ".link", data["link"]) if "link" in data else None,
            protocols=protocols,
            address=_reachable(option + ".address", data["address"]) if "address" in data else None,
            ports=ports,
            to=_hosts(option + ".to", data["to"]),
            to_ports=_to_ports(option + ".to_port", data.get("to_port"), ports),
            sources=values.prefixes(option + ".source", _listed(data, "source")),
            hairpin=values.boolean(option + ".hairpin", data.get("hairpin", False)),
        )

    def dump(self) -> dict[str, Any]:
        told = {
            "link": self.link,
            "protocol": list(self.protocols),
            "address": self.address,
            "port": _range(self.ports),
            "to_port": _range(self.to_ports),
            "source": list(self.sources),
            "hairpin": self.hairpin,
        }
        return {"name": self.name, "to": _range(self.to), **{key: item for key, item in told.items() if item}}

    def told(self) -> str:
        """What it takes, in the words of a message."""
        which = "every protocol" if self.ports is None else f"{'/'.join(self.protocols)} {_range(self.ports)}"
        senders = " of " + ", ".join(self.sources) if self.sources else ""
        return f"{which}{senders} to {self.address or 'every address'} on {self.link or 'every link'}"


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    """One text or a list of them."""
    item = data.get(key, [])
    return list(item) if isinstance(item, (list, tuple)) else [item]


def _range(pair: tuple[Any, Any] | None) -> str | None:
    if pair is None:
        return None
    low, high = pair
    return str(low) if low == high else f"{low}-{high}"


def _protocols(option: str, listed: Iterable[Any]) -> tuple[str, ...]:
    wanted = {values.choice(option, item, PORT_PROTOCOLS) for item in listed}
    return tuple(protocol for protocol in PORT_PROTOCOLS if protocol in wanted)


def _check_protocol(option: str, protocols: tuple[str, ...], ports: Ports | None) -> None:
    if ports and not protocols:
        remedy = "Give protocol as one of {}, or a list of them".format(", ".join(PORT_PROTOCOLS))
        raise InputError(option + ".protocol", None, "is missing, and only some protocols have ports", remedy)
    if protocols and not ports:
        remedy = "Give a port, a range such as 1-65535, or leave protocol out as well to forward all of them"
        raise InputError(option + ".port", None, "is missing", remedy)


def _reachable(option: str, value: Any) -> str:
    address = values.address(option, value)
    if ipaddress.IPv4Address(address) in LOOPBACK:
        problem = "is of the router itself, and nothing from elsewhere gets there"
        raise InputError(option, value, problem, "Give an address of one of the router's other devices")
    return address


def _hosts(option: str, value: Any) -> tuple[str, str]:
    """An address, or a range "first-last" of them."""
    first, _dash, last = value.partition("-") if isinstance(value, str) else (value, "", "")
    low = _reachable(option, first)
    high = _reachable(option, last) if _dash else low
    if _number(high) < _number(low):
        raise InputError(option, value, "is a range that ends before it starts", f"Give it as {high}-{low}")
    return low, high


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


def _to_ports(option: str, value: Any, ports: Ports | None) -> Ports | None:
    """None where nothing changes."""
    if value is None:
        return None
    if ports is None:
        raise InputError(option, value, "has nothing to change", "Give protocol and port, or leave to_port out")
    low, high = values.ports(option, value)
    number = ports[1] - ports[0] + 1
    if high > low and high - low + 1 != number:
        remedy = f"Give one port, or a range of {number}"
        raise InputError(option, value, f"is not as long as port {_range(ports)}", remedy)
    if high > low and low != ports[0] and number > MOST_MAPPED:
        remedy = f"Give ranges of {MOST_MAPPED} ports at most, or leave to_port out to keep the ports"
        raise InputError(option, value, f"maps {number} ports one by one", remedy)
    return None if (low, high) == ports else (low, high)


def check(forwards: tuple[Dnat, ...], links: Iterable[Link]) -> None:
    """Refuse what takes the same as another, as far as what is declared tells; raises InputError."""
    by_name = {link.name: link for link in links}
    refuse(overlaps(place for forward in forwards for place in _places(forward, by_name)))


def refuse(found: Iterable[tuple[Any, Dnat, Dnat]]) -> None:
    """Raise InputError for the first of these overlaps."""
    for _place, earlier, later in found:
        problem = f"takes what {earlier.name} takes: {later.told()}, and {earlier.told()}"
        remedy = "Have them differ in link, address, protocol, port or source"
        raise InputError("dnat." + later.name, None, problem, remedy)


def _places(forward: Dnat, links: Mapping[str, Link]) -> Iterator[tuple[Hashable, Dnat]]:
    """Where it takes connections: link and address; with hairpin also "" and address.

    What is not declared of an address is told by the link, or by the device that links share.
    """
    for link in links.values() if forward.link is None else (links[forward.link],):
        fixed = () if link.address == AUTO else (link.address,)
        own: tuple[Hashable, ...] = (forward.address,) if forward.address else (None, *fixed)
        for address in own:
            yield (link.name, address), forward
        if forward.hairpin:
            yield ("", forward.address or (link.device, *fixed)), forward
            yield from ((("", address), forward) for address in fixed if not forward.address)


def overlaps(placed: Iterable[tuple[Place, Dnat]]) -> Iterator[tuple[Place, Dnat, Dnat]]:
    """The pairs that take the same at a place, the one listed before the other first.

    By port, lowest first, each is compared with those whose range has not ended yet: few, or none.
    """
    places: dict[Place, dict[str, tuple[int, Dnat]]] = {}
    for number, (place, forward) in enumerate(placed):
        places.setdefault(place, {}).setdefault(forward.name, (number, forward))
    for place, here in places.items():
        open_: list[tuple[int, Dnat]] = []
        for number, forward in sorted(here.values(), key=lambda item: (item[1].ports or EVERY_PORT, item[0])):
            low = (forward.ports or EVERY_PORT)[0]
            open_ = [item for item in open_ if (item[1].ports or EVERY_PORT)[1] >= low]
            for other in open_:
                if _same(other[1], forward):
                    first, second = sorted((other, (number, forward)), key=lambda item: item[0])
                    yield place, first[1], second[1]
            open_.append((number, forward))


def _same(one: Dnat, other: Dnat) -> bool:
    """Whether some sender and protocol is taken by both."""
    if one.protocols and other.protocols and not set(one.protocols) & set(other.protocols):
        return False
    if not one.sources or not other.sources:
        return True
    networks = [[ipaddress.IPv4Network(source) for source in item.sources] for item in (one, other)]
    return any(mine.overlaps(its) for mine in networks[0] for its in networks[1])
