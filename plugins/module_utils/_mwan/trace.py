# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way the kernel sends a packet: rules by priority, longest prefix, lowest metric, nexthops that are alive.

Follows fib_rules_lookup (net/core/fib_rules.c), fib4_rule_match, fib4_rule_suppress (net/ipv4/fib_rules.c),
fib_table_lookup, fib_lookup_good_nhc (net/ipv4/fib_trie.c), fib_select_path (net/ipv4/fib_semantics.c) and
ip_route_output_key_hash_rcu (net/ipv4/route.c).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from .kernel import DEFAULT, LOCAL, Device, IpRule, Nexthop, Route

# what the router itself sends counts as arriving on the loopback device (ip_route_output_key_hash)
ITSELF = "lo"
# what is forwarded belongs to root of the network namespace (sock_net_uid)
ROOT = 0
ANSWERS = ("unicast", "local", "broadcast", "anycast", "multicast")


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection. None is what is not known: a rule that asks for it does not match.

    `user` and `out_device`, the device that its socket is bound to, are of what the router itself sends.
    """

    destination: str
    source: str | None = None
    device: str = ITSELF
    mark: int = 0
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    user: int | None = None
    out_device: str | None = None

    @property
    def owner(self) -> int | None:
        return self.user if self.device == ITSELF else ROOT

    @property
    def bound(self) -> str | None:
        return self.out_device if self.device == ITSELF else None


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
    only a default route that it suppresses, or says to look further (`throw`), or has no table at all (goto, nop).
    """

    rule: IpRule
    refusal: str | None = None
    found: Found | None = None
    decides: bool = False


@dataclass(frozen=True)
class Trace:
    """The rules that were asked, in order; where the last one does not decide, nothing leads to the destination.

    `on_link` is the answer all the same when the socket is bound to a device: where routing has none, or refuses, the
    kernel takes the destination to be on that device's network.
    """

    steps: tuple[Step, ...]
    on_link: Found | None = None

    @property
    def decision(self) -> Step | None:
        last = self.steps[-1] if self.steps else None
        return last if last and last.decides else None

    @property
    def found(self) -> Found | None:
        found = self.decision.found if self.decision else None
        return found if found and found.kind in ANSWERS else self.on_link or found

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
        place = 0
        while place < len(self.rules):
            steps.append(self._step(self.rules[place], packet))
            if steps[-1].decides:
                break
            place = self._next(place, steps[-1])
        return Trace(tuple(steps), self._on_link(packet))

    def _step(self, rule: IpRule, packet: Packet) -> Step:
        refusal = unmet(rule, packet)
        if refusal or rule.action != "lookup":
            return Step(rule, refusal)
        found = self.best(rule.table, packet.destination, packet.bound)
        if found is None or found.kind == "throw":
            return Step(rule, None, found)
        # an error is an answer even where it stands for everything: only routes that lead somewhere are suppressed
        suppressed = rule.suppress_default and found.default and found.kind in ANSWERS
        return Step(rule, None, found, decides=not suppressed)

    def _next(self, place: int, step: Step) -> int:
        """The rule that is asked next; one that says to go on where there is no rule, or back, is passed over."""
        behind = range(place + 1, len(self.rules))
        if step.refusal or step.rule.action != "goto":
            return place + 1
        return next((index for index in behind if self.rules[index].priority == step.rule.target), place + 1)

    def _on_link(self, packet: Packet) -> Found | None:
        device = self.devices.get(packet.bound or "")
        if device is None or not device.up:
            return None
        hop = Nexthop(device.name)
        return Found(Route(0, f"{packet.destination}/32", nexthops=(hop,)), (hop,))

    def best(self, table: int, destination: str, bound: str | None = None) -> Found | None:
        """The table's route for an address; one whose nexthops are all dead does not count.

        For a socket that is bound to a device only nexthops there count, and the first of them is taken.
        """
        address = ipaddress.IPv4Address(destination)
        routes = (route for route in self.tables.get(table, ()) if address in network(route))
        for route in sorted(routes, key=lambda item: (-network(item).prefixlen, item.metric)):
            alive = tuple(hop for hop in route.nexthops if hop.device == (bound or hop.device))
            alive = tuple(hop for hop in alive if self.alive(hop.device))
            # addresses of a device that is down stay local (fib_sync_down_dev passes over scope host)
            if alive or not route.nexthops or (route.kind == "local" and not bound):
                return Found(route, alive[:1] if bound else alive)
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
    """The first condition of a rule that the packet does not meet, in the order in which `ip rule` prints them.

    Of an inverted rule that is the opposite of all its conditions together.
    """
    failed = next((words for words, met in _conditions(rule, packet) if not met), None)
    if not rule.inverted:
        return failed
    return None if failed else "anything but " + (" ".join(words for words, _met in _conditions(rule, packet)) or "all")


def _conditions(rule: IpRule, packet: Packet) -> Iterator[tuple[str, bool]]:
    """What a rule asks for, in words, and whether the packet has it."""
    if rule.source:
        yield f"from {rule.source}", _within(packet.source, rule.source)
    if rule.destination:
        yield f"to {rule.destination}", _within(packet.destination, rule.destination)
    if rule.mark is not None:
        yield f"mark 0x{rule.mark:x}", packet.mark & (rule.mask or 0xFFFFFFFF) == rule.mark
    if rule.device:
        yield f"in {rule.device}", rule.device == packet.device
    if rule.out_device:
        yield f"out {rule.out_device}", rule.out_device == packet.bound
    if rule.user:
        yield _ranged("user", rule.user), _among(rule.user, packet.owner)
    if rule.protocol is not None:
        yield f"protocol {rule.protocol}", rule.protocol == packet.protocol
    if rule.source_port:
        yield _ranged("source port", rule.source_port), _among(rule.source_port, packet.source_port)
    if rule.destination_port:
        yield _ranged("destination port", rule.destination_port), _among(rule.destination_port, packet.destination_port)


def _within(address: str | None, prefix: str) -> bool:
    """An address that is not chosen yet is 0.0.0.0 to the kernel."""
    return ipaddress.IPv4Address(address or "0.0.0.0") in ipaddress.IPv4Network(prefix)


def _among(wanted: tuple[int, int], number: int | None) -> bool:
    return number is not None and wanted[0] <= number <= wanted[1]


def _ranged(word: str, wanted: tuple[int, int]) -> str:
    low, high = wanted
    return f"{word} {low}" if low == high else f"{word} {low}-{high}"
