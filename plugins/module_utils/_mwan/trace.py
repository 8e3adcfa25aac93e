# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way the kernel sends a packet: rules by priority, longest prefix, lowest metric, nexthops that are alive.

Follows fib_rules_lookup (net/core/fib_rules.c), fib4_rule_match, fib4_rule_suppress (net/ipv4/fib_rules.c) and
fib_table_lookup (net/ipv4/fib_trie.c).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from .kernel import DEFAULT, LOCAL, Device, IpRule, Nexthop, Route

# what the router itself sends counts as arriving on the loopback device (ip_route_output_key_hash)
ITSELF = "lo"
ANSWERS = ("unicast", "local", "broadcast", "anycast", "multicast")


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. None is what is not known: a rule that asks for it does not match."""

    destination: str
    source: str | None = None
    device: str = ITSELF
    mark: int = 0
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None


@dataclass(frozen=True)
class Found:
    """A table's answer: a route, and those of its nexthops that are alive."""

    route: Route
    nexthops: tuple[Nexthop, ...] = ()

    @property
    def kind(self) -> str:
        return self.route.kind

    @property
    def default(self) -> bool:
        return self.route.destination == DEFAULT


@dataclass(frozen=True)
class Step:
    """What came of one rule: `refusal` is the condition that did not hold, None where the rule matched.

    A rule that matched and still did not decide has nothing for the destination in its table (`found` is None), or
    only a default route that it suppresses, or says to look further (`throw`).
    """

    rule: IpRule
    refusal: str | None = None
    found: Found | None = None
    decides: bool = False


@dataclass(frozen=True)
class Trace:
    """The rules that were asked, in order; where the last one does not decide, nothing leads to the destination."""

    steps: tuple[Step, ...]

    @property
    def decision(self) -> Step | None:
        last = self.steps[-1] if self.steps else None
        return last if last and last.decides else None

    @property
    def found(self) -> Found | None:
        return self.decision.found if self.decision else None

    def ways(self) -> dict[Nexthop, float]:
        """The nexthops that new connections use, and which part of them each takes."""
        hops = self.found.nexthops if self.found and self.found.kind == "unicast" else ()
        total = sum(hop.weight for hop in hops)
        return {hop: hop.weight / total for hop in hops}


@dataclass(frozen=True)
class Fib:
    """Rules and routes, those of others among them.

    `ignores_linkdown` are the devices with ignore_routes_with_linkdown: a nexthop there needs a carrier.
    """

    rules: tuple[IpRule, ...]
    tables: Mapping[int, tuple[Route, ...]]
    devices: Mapping[str, Device] = field(default_factory=dict)
    ignores_linkdown: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        rules: Iterable[IpRule],
        routes: Iterable[Route],
        devices: Mapping[str, Device],
        ignores_linkdown: Iterable[str] = (),
    ) -> Fib:
        by_table = sorted(routes, key=lambda route: route.table)
        tables = {table: tuple(group) for table, group in groupby(by_table, key=lambda route: route.table)}
        # the kernel keeps equals in the order in which they came; ours of one priority exclude each other
        ordered = sorted(rules, key=lambda rule: (rule.priority, rule.mark or 0, str(rule)))
        return cls(tuple(ordered), tables, devices, frozenset(ignores_linkdown))

    def trace(self, packet: Packet) -> Trace:
        steps: list[Step] = []
        for rule in self.rules:
            steps.append(self._step(rule, packet))
            if steps[-1].decides:
                break
        return Trace(tuple(steps))

    def _step(self, rule: IpRule, packet: Packet) -> Step:
        refusal = unmet(rule, packet)
        found = None if refusal else self.best(rule.table, packet.destination)
        if found is None or found.kind == "throw":
            return Step(rule, refusal, found)
        # an error is an answer even where it stands for everything: only routes that lead somewhere are suppressed
        suppressed = rule.suppress_default and found.default and found.kind in ANSWERS
        return Step(rule, None, found, decides=not suppressed)

    def best(self, table: int, destination: str) -> Found | None:
        """The table's route for an address; one whose nexthops are all dead does not count."""
        address = ipaddress.IPv4Address(destination)
        routes = (route for route in self.tables.get(table, ()) if address in network(route))
        for route in sorted(routes, key=lambda item: (-network(item).prefixlen, item.metric)):
            alive = tuple(hop for hop in route.nexthops if self.alive(hop.device))
            # addresses of a device that is down stay local (fib_sync_down_dev passes over scope host)
            if alive or not route.nexthops or route.kind == "local":
                return Found(route, alive)
        return None

    def alive(self, device: str) -> bool:
        found = self.devices.get(device)
        return found is not None and found.up and (found.carrier or device not in self.ignores_linkdown)

    def local(self, address: str) -> bool:
        """Whether an address is the router's own."""
        found = self.best(LOCAL, address)
        return found is not None and found.kind == "local"


def network(route: Route) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network("0.0.0.0/0" if route.destination == DEFAULT else route.destination)


def unmet(rule: IpRule, packet: Packet) -> str | None:
    """The first condition of a rule that the packet does not meet, in the order in which `ip rule` prints them."""
    if rule.source and not _within(packet.source, rule.source):
        return f"from {rule.source}"
    if rule.destination and not _within(packet.destination, rule.destination):
        return f"to {rule.destination}"
    if rule.mark is not None and packet.mark & (rule.mask or 0xFFFFFFFF) != rule.mark:
        return f"mark 0x{rule.mark:x}"
    if rule.device not in (None, packet.device):
        return f"in {rule.device}"
    if rule.protocol not in (None, packet.protocol):
        return f"protocol {rule.protocol}"
    return _unmet_port("source port", rule.source_port, packet.source_port) or _unmet_port(
        "destination port", rule.destination_port, packet.destination_port
    )


def _within(address: str | None, prefix: str) -> bool:
    """An address that is not chosen yet is 0.0.0.0 to the kernel."""
    return ipaddress.IPv4Address(address or "0.0.0.0") in ipaddress.IPv4Network(prefix)


def _unmet_port(word: str, wanted: tuple[int, int] | None, port: int | None) -> str | None:
    if wanted is None or (port is not None and wanted[0] <= port <= wanted[1]):
        return None
    low, high = wanted
    return f"{word} {low}" if low == high else f"{word} {low}-{high}"
