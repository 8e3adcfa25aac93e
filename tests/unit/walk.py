# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Where a packet goes on the model router: choices of the firewall, policy rules, routing tables, pins, source NAT."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace

from _mwan.balancing import MULTIPATH
from _mwan.firewall.choices import Choice, Classification, Condition
from _mwan.firewall.model import Firewall, FirewallLink
from _mwan.kernel import DEFAULT, IpRule, Nexthop, Route
from unit.model_kernel import ModelRouter

SOURCE_PORT = 40000


@dataclass(frozen=True)
class Packet:
    source: str
    destination: str
    protocol: int = 6
    port: int = 443
    device: str = "lan0"
    mark: int = 0
    user: int | None = None
    out_device: str | None = None
    dscp: int = 0

    @property
    def own(self) -> bool:
        return self.device == "lo"


@dataclass(frozen=True)
class Way:
    """What a lookup found: `kind` of the route, its table, and the nexthops that the kernel may choose from."""

    kind: str
    table: int = 0
    hops: frozenset[tuple[str, str | None]] = frozenset()

    @property
    def out(self) -> bool:
        return self.kind == "unicast"


NOWHERE = Way("none")


@dataclass(frozen=True)
class Led:
    """A way that a new connection may take; `by_policy`: one of several that the firewall chooses from for a policy."""

    way: Way
    by_policy: bool = False


def led(router: ModelRouter, packet: Packet) -> frozenset[Led]:
    """The ways that a new connection may take; the router's own has one before the firewall is asked."""
    unled = lookup(router, packet)
    if packet.own and not unled.out:
        return frozenset({Led(unled)})
    loaded = [firewall.classification for firewall in router.loaded()]
    found = [(classification, _first(classification, packet)) for classification in loaded]
    chosen = next((_marks(classification, choice) for classification, choice in found if choice), None)
    if chosen is None:
        return frozenset({Led(unled)})
    marks, by_policy = chosen
    return frozenset(Led(lookup(router, replace(packet, mark=mark)) if mark else unled, by_policy) for mark in marks)


def _first(classification: Classification, packet: Packet) -> Choice | None:
    """The first choice that matches."""
    if any(_covers(network, packet.destination) for network in classification.excluded):
        return None
    choices = classification.own if packet.own else classification.forwarded
    return next((choice for choice in choices if _meets(classification, choice.condition, packet)), None)


def _marks(classification: Classification, choice: Choice) -> tuple[set[int], bool]:
    """The marks that it may give, 0 for none, and whether a policy has several."""
    if choice.chooser is None:
        return {choice.mark or 0}, False
    chooser = classification.chooser(choice.chooser)
    marks = {way.mark for way in chooser.ways} if chooser.algorithm != MULTIPATH else set()
    assert {mark for _low, _high, mark in chooser.buckets} <= marks
    return marks or {chooser.mark}, True


def _meets(classification: Classification, condition: Condition, packet: Packet) -> bool:
    sets = {item.name: item.networks for item in classification.sets}
    return all(
        (
            _among(condition.sources, packet.source),
            condition.source_set is None or _within(sets[condition.source_set], packet.source),
            _among(condition.destinations, packet.destination),
            condition.destination_set is None or _within(sets[condition.destination_set], packet.destination),
            condition.device in (None, packet.device),
            condition.protocol in (None, packet.protocol),
            not condition.source_ports or _between(condition.source_ports, SOURCE_PORT),
            not condition.destination_ports or _between(condition.destination_ports, packet.port),
            condition.dscp in (None, packet.dscp),
            condition.mark is None or packet.mark & condition.mark[1] == condition.mark[0],
            condition.user in (None, packet.user),
            condition.mac is condition.group is condition.cgroup is None and not condition.times,
        )
    )


def _among(networks: tuple[str, ...], address: str) -> bool:
    return not networks or _within(networks, address)


def _within(networks: Iterable[str], address: str) -> bool:
    return any(_covers(network, address) for network in networks)


def _between(ranges: Iterable[tuple[int, int]], port: int) -> bool:
    return any(low <= port <= high for low, high in ranges)


def lookup(router: ModelRouter, packet: Packet) -> Way:
    """fib_rules_lookup: the first rule whose table has an answer decides."""
    rules = [rule for rule, _protocol in router.routing.policy]
    while rules:
        rule = rules.pop(0)
        if _matches(rule, packet) == rule.inverted:
            continue
        if rule.action == "goto" and any(other.priority == rule.target for other in rules):
            rules = [other for other in rules if other.priority >= (rule.target or 0)]
        route = _best(router, rule.table, packet.destination) if rule.action == "lookup" else None
        if route is None or (rule.suppress_default and route.destination == DEFAULT):
            continue
        return Way(route.kind, route.table, frozenset((hop.device, hop.gateway) for hop in _alive(router, route)))
    return NOWHERE


def _matches(rule: IpRule, packet: Packet) -> bool:
    return all(
        (
            rule.mark is None or packet.mark & (rule.mask or 0xFFFFFFFF) == rule.mark,
            rule.source is None or _covers(rule.source, packet.source),
            rule.destination is None or _covers(rule.destination, packet.destination),
            rule.device in (None, packet.device),
            rule.out_device in (None, packet.out_device),
            rule.user is None or (packet.user is not None and rule.user[0] <= packet.user <= rule.user[1]),
            rule.protocol in (None, packet.protocol),
            rule.source_port is None or rule.source_port[0] <= SOURCE_PORT <= rule.source_port[1],
            rule.destination_port is None or rule.destination_port[0] <= packet.port <= rule.destination_port[1],
        )
    )


def _best(router: ModelRouter, table: int, destination: str) -> Route | None:
    """Longest prefix, then lowest metric; routes without a live nexthop do not count (fib_table_lookup)."""
    found = [
        route
        for route, _protocol in router.routing.rib.values()
        if route.table == table
        and (route.destination == DEFAULT or _covers(route.destination, destination))
        and (not route.nexthops or _alive(router, route))
    ]
    return min(found, key=lambda route: (-_length(route), route.metric), default=None)


def _length(route: Route) -> int:
    return 0 if route.destination == DEFAULT else int(route.destination.partition("/")[2])


def _alive(router: ModelRouter, route: Route) -> list[Nexthop]:
    return [hop for hop in route.nexthops if _device_alive(router, hop.device)]


def _device_alive(router: ModelRouter, name: str) -> bool:
    """A route over an unplugged device is no way, whether ignore_routes_with_linkdown has the kernel skip it or not."""
    device = router.routing.seen.devices.get(name)
    return device is not None and device.up and device.carrier


def pin(firewall: Firewall, device: str, gateway: str | None) -> FirewallLink | None:
    """The link that a new connection leaving by this nexthop is pinned to (the save chain)."""
    for link in firewall.exclusive():
        if link.device == device:
            return link
    for link in firewall.shared():
        if (link.device, link.gateway) == (device, gateway):
            return link
    return next((link for link in firewall.shared_fallbacks() if link.device == device), None)


def translated(firewall: Firewall, link: FirewallLink, source: str) -> bool:
    """Whether a connection from `source` pinned to `link` gets another source address on the link's device."""
    return any(
        (rule.mark, rule.device) == (link.mark, link.device)
        and (not rule.sources or any(_covers(prefix, source) for prefix in rule.sources))
        for rule in firewall.snat
    )


def _covers(prefix: str, address: str) -> bool:
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(prefix)
