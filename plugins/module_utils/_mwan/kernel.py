# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel objects we keep, as canonical values: routes, policy rules, and the facts they are computed from.

Canonical means: what the adapter reads back from the kernel equals what the core asked for.
`str()` of an object is how `ip` prints it, so that plans and diffs read as an administrator expects.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .hostfacts import HostFacts

MAIN, LOCAL = 254, 255
DEFAULT = "default"
TABLE_NAMES = {MAIN: "main", LOCAL: "local", 253: "default"}
IPV4 = 4


@dataclass(frozen=True)
class Nexthop:
    """One way of a route. `weight` counts from 1; `realm` is the classifier iptables can match, None where unused."""

    device: str
    gateway: str | None = None
    weight: int = 1
    onlink: bool = False
    realm: int | None = None

    def words(self, multipath: bool) -> str:
        parts = [f"via {self.gateway}"] if self.gateway else []
        parts.append(f"dev {self.device}")
        parts += [f"weight {self.weight}"] if multipath else []
        parts += ["onlink"] if self.onlink else []
        parts += [f"realm {self.realm}"] if self.realm is not None else []
        return " ".join(parts)


@dataclass(frozen=True)
class Route:
    """One entry of a routing table.

    `kind` is unicast, prohibit, unreachable or blackhole, and of these only unicast has nexthops; those of others
    may be of any kind that `ip route` knows.
    """

    table: int
    destination: str = DEFAULT
    metric: int = 0
    kind: str = "unicast"
    nexthops: tuple[Nexthop, ...] = ()
    source: str | None = None
    family: int = IPV4

    @property
    def key(self) -> tuple[int, int, str, int]:
        """What the kernel tells routes apart by (fib_table_insert: prefix, TOS, priority; we use no TOS)."""
        return self.family, self.table, self.destination, self.metric

    def words(self, where: str = "") -> str:
        """As `ip route` takes it; `where` names table and protocol. Nexthops of a multipath route come last."""
        multipath = len(self.nexthops) > 1
        parts = [] if self.kind == "unicast" else [self.kind]
        parts.append(self.destination)
        parts += [hop.words(False) for hop in self.nexthops if not multipath]
        parts += [f"src {self.source}"] if self.source else []
        parts += [f"metric {self.metric}"] if self.metric else []
        parts += [where] if where else []
        parts += [f"nexthop {hop.words(True)}" for hop in self.nexthops if multipath]
        return " ".join(parts)

    def __str__(self) -> str:
        return self.words()


@dataclass(frozen=True)
class IpRule:
    """One policy routing rule. `mark` and `mask` go together; ports and users are inclusive ranges of numbers.

    `protocol` is a number, too. `out_device` is the device that a socket is bound to, which no forwarded packet has.
    Only `action` lookup has a table; goto goes on at the first rule of priority `target`, which lies behind, and nop
    does nothing but be such a rule. An `inverted` rule is for what does not meet all of its conditions.
    """

    priority: int
    table: int
    source: str | None = None
    destination: str | None = None
    device: str | None = None
    mark: int | None = None
    mask: int | None = None
    protocol: int | None = None
    source_port: tuple[int, int] | None = None
    destination_port: tuple[int, int] | None = None
    suppress_default: bool = False
    family: int = IPV4
    out_device: str | None = None
    user: tuple[int, int] | None = None
    action: str = "lookup"
    target: int | None = None
    inverted: bool = False

    MATCHES = (
        "source",
        "destination",
        "device",
        "out_device",
        "mark",
        "mask",
        "user",
        "protocol",
        "source_port",
        "destination_port",
    )

    def clashes(self, other: IpRule) -> bool:
        """Whether the kernel cannot tell the two apart in every request.

        What a request leaves out is wild: source and destination when a rule is added (rule_exists), every match
        when it is deleted (rule_find, both net/core/fib_rules.c). Neither looks at where a goto goes, nor at whether
        a rule is inverted.
        """
        if self._place() != other._place():
            return False
        pairs = [(getattr(self, name), getattr(other, name)) for name in self.MATCHES]
        return all(mine in (None, its) for mine, its in pairs) or all(its in (None, mine) for mine, its in pairs)

    def _place(self) -> tuple[int, int, str, int]:
        return self.family, self.priority, self.action, self.table

    def words(self, table: str) -> str:
        """Selector and action as `ip rule` takes and prints them, without the priority."""
        parts = ["not"] if self.inverted else []
        parts.append(f"from {self.source or 'all'}")
        parts += [f"to {self.destination}"] if self.destination else []
        parts += [f"fwmark 0x{self.mark:x}/0x{self.mask or 0xFFFFFFFF:x}"] if self.mark is not None else []
        parts += [f"iif {self.device}"] if self.device else []
        parts += [f"oif {self.out_device}"] if self.out_device else []
        parts += ["uidrange {}-{}".format(*self.user)] if self.user else []
        parts += [f"ipproto {self.protocol}"] if self.protocol else []
        parts += [
            f"{word} {_range(ports)}"
            for word, ports in (("sport", self.source_port), ("dport", self.destination_port))
            if ports
        ]
        return " ".join([*parts, self._deed(table)])

    def _deed(self, table: str) -> str:
        if self.action == "goto":
            return f"goto {self.target}"
        if self.action == "nop":
            return "nop"
        return f"lookup {table}" + (" suppress_prefixlength 0" if self.suppress_default else "")

    def __str__(self) -> str:
        return f"{self.priority}: {self.words(TABLE_NAMES.get(self.table, str(self.table)))}"


def _range(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


@dataclass(frozen=True)
class Device:
    """A network device: `up` is the administrator's flag, `carrier` the cable's."""

    name: str
    up: bool = True
    carrier: bool = True
    point_to_point: bool = False


@dataclass(frozen=True)
class Address:
    """An address of a device; `peer` is set on point-to-point addresses."""

    device: str
    address: str
    prefix_length: int
    peer: str | None = None

    @property
    def network(self) -> str:
        return str(ipaddress.IPv4Network(f"{self.address}/{self.prefix_length}", strict=False))

    def covers(self, other: str) -> bool:
        """Whether `other` is in the connected network of this address."""
        return ipaddress.IPv4Address(other) in ipaddress.IPv4Network(self.network)


@dataclass(frozen=True)
class Facts:
    """What the desired state is computed from and never changes: devices, addresses, neighbours, learned gateways."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    neighbours: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # device -> default routes that others (DHCP, RA, PPP, the administrator) left for it, best metric first
    defaults: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    host: HostFacts = field(default_factory=HostFacts)

    def addresses_of(self, device: str) -> tuple[Address, ...]:
        return tuple(address for address in self.addresses if address.device == device)


@dataclass(frozen=True)
class Surroundings:
    """What the kernel and others have beside us; `unclear` are rules that do more, or less, than their fields say."""

    routes: tuple[Route, ...] = ()
    rules: tuple[IpRule, ...] = ()
    unclear: frozenset[IpRule] = frozenset()


# Parts of the connections of a mark: all but TCP, and those over TCP that were never answered.
OTHERS, UNANSWERED = "others", "unanswered"


@dataclass(frozen=True)
class Marked:
    """Tracked connections by their mark, under a mask: all, a part, or those that have this address of ours.

    Of a part, those that others began to one of the `spared` addresses are left out.
    """

    mark: int
    mask: int
    part: str = ""
    address: str | None = None
    spared: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return not (self.part or self.address)

    def words(self) -> str:
        """As conntrack(8) would select them, and in brackets what it cannot."""
        parts = [f"--mark 0x{self.mark:x}/0x{self.mask:x}"]
        parts += {OTHERS: ["(all but tcp)"], UNANSWERED: ["-p tcp (never answered)"]}.get(self.part, [])
        parts += [f"(of address {self.address})"] if self.address else []
        parts += ["(but those begun to {})".format(", ".join(self.spared))] if self.spared else []
        return " ".join(parts)


@dataclass(frozen=True)
class Pin:
    """What the pin of a link means now: `sources` are the addresses that its connections may have, sorted.

    `reset` is why its TCP connections are answered with resets, and `flushed` why those of other protocols have been
    forgotten: the prober's word on the link (`Health.released`); '' where they are not.
    """

    mark: int
    sources: tuple[str, ...] = ()
    reset: str = ""
    flushed: str = ""


@dataclass(frozen=True)
class State:
    """What we converge: the desired and the observed side have the same form."""

    routes: frozenset[Route] = frozenset()
    rules: frozenset[IpRule] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    # path -> content; None is a file that is not there
    files: Mapping[str, str | None] = field(default_factory=dict)
    # what the live firewall was loaded from, or its drifted listing; '' when there is none
    firewall: str = ""
    # the listing of what another backend carried for us until now
    former_firewall: str = ""
    # by link; not of the kernel, but of what was done to its connections
    pins: Mapping[str, Pin] = field(default_factory=dict)
    # what the helper of least_connections reads; None where nobody asks it
    balance: str | None = None

    def with_routes(self, gone: Route | None, come: Route | None) -> State:
        return replace(self, routes=self.routes - {gone} | ({come} if come else set()))

    def with_rules(self, gone: IpRule | None, come: IpRule | None) -> State:
        return replace(self, rules=self.rules - {gone} | ({come} if come else set()))
