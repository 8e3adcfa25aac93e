# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A router in memory behind the library's ports, with what matters of the real kernel's behaviour.

Routes are told apart by table, destination and metric (fib_table_insert); rules are kept in order of priority, the
newest last among equals (fib_nl_newrule). Fields that a request leaves out are wild in a search for a rule: for
adding source and destination (rule_exists calls fib4_rule_compare), for deleting all of them (rule_find).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from _mwan import layout
from _mwan.errors import KernelError
from _mwan.firewall import nftables
from _mwan.firewall.model import Firewall
from _mwan.kernel import MAIN, Facts, IpRule, Marked, Route, Surroundings
from _mwan.ports import Router

OURS = layout.PROTOCOL
BY_KERNEL = 2  # RTPROT_KERNEL, linux/rtnetlink.h
PORTS = ("source_port", "destination_port")
Held = tuple[IpRule, int]


class Faults:
    """Counts the writes to the router, refuses the one it is told to, and lets a test look after each."""

    def __init__(self) -> None:
        self.writes = 0
        self.refuse: int | None = None
        self.after_write: Callable[[], None] | None = None

    def write(self, what: str) -> None:
        self.writes += 1
        if self.writes == self.refuse:
            raise KernelError("test", what, "refused as told")

    def written(self) -> None:
        if self.after_write:
            self.after_write()


@dataclass
class Routing:
    """The RoutingPort. `rib` holds everybody's routes, `policy` everybody's rules, each with its protocol number."""

    faults: Faults
    seen: Facts = field(default_factory=Facts)
    rib: dict[tuple[int, int, str, int], tuple[Route, int]] = field(default_factory=dict)
    policy: list[Held] = field(default_factory=list)
    flushed: list[Marked] = field(default_factory=list)

    def facts(self) -> Facts:
        return self.seen

    def routes(self) -> frozenset[Route]:
        return frozenset(route for route, protocol in self.rib.values() if protocol == OURS)

    def rules(self) -> frozenset[IpRule]:
        return frozenset(rule for rule, protocol in self.policy if protocol == OURS)

    def foreign_rules(self) -> tuple[IpRule, ...]:
        return tuple(rule for rule, protocol in self.policy if protocol != OURS)

    def surroundings(self) -> Surroundings:
        routes = tuple(route for route, protocol in self.rib.values() if protocol != OURS)
        return Surroundings(routes, self.foreign_rules())

    def change_route(self, before: Route | None, after: Route | None) -> None:
        self.faults.write(f"route {before} -> {after}")
        if after is None:
            assert before is not None
            self._delete_route(before)
        else:
            self._put_route(after, replacing=before is not None)
        self.faults.written()

    def _delete_route(self, route: Route) -> None:
        held = self.rib.get(route.key)
        if held is None or held[1] != OURS:
            raise KernelError("ip route del", str(route), "ESRCH")
        del self.rib[route.key]

    def _put_route(self, route: Route, replacing: bool) -> None:
        problem = self._refusal(route)
        if problem is None and not replacing and route.key in self.rib:
            problem = "EEXIST"
        if problem:
            raise KernelError("ip route", str(route), problem)
        self.rib[route.key] = (route, OURS)

    def _refusal(self, route: Route) -> str | None:
        """fib_create_info: nexthops that cannot be reached, and source addresses that are not ours, are refused."""
        for hop in route.nexthops:
            device = self.seen.devices.get(hop.device)
            if device is None:
                return "ENODEV"
            if not device.up:
                return "ENETDOWN"
            if hop.gateway and not hop.onlink and not self._connected(hop.device, hop.gateway):
                return "ENETUNREACH"
        if route.source and route.source not in {item.address for item in self.seen.addresses}:
            return "EINVAL"
        return None

    def _connected(self, device: str, gateway: str) -> bool:
        return any(
            item.peer == gateway if item.peer else _within(gateway, f"{item.address}/{item.prefix_length}")
            for item in self.seen.addresses_of(device)
        )

    def change_rule(self, before: IpRule | None, after: IpRule | None) -> None:
        self.faults.write(f"rule {before} -> {after}")
        if after is None:
            assert before is not None
            self._delete_rule(before)
        else:
            self._add_rule(after)
        self.faults.written()

    def _add_rule(self, rule: IpRule) -> None:
        if rule.action == "goto" and (rule.target or 0) <= rule.priority:
            raise KernelError("ip rule add", str(rule), "EINVAL")
        if any(protocol == OURS and collides(rule, held) for held, protocol in self.policy):
            raise KernelError("ip rule add", str(rule), "EEXIST")
        rule = replace(rule, source=_not_all(rule.source), destination=_not_all(rule.destination))
        self.insert_rule(rule, OURS)

    def insert_rule(self, rule: IpRule, protocol: int) -> None:
        position = sum(1 for held, _protocol in self.policy if held.priority <= rule.priority)
        self.policy.insert(position, (rule, protocol))

    def _delete_rule(self, rule: IpRule) -> None:
        for held in self.policy:
            if held[1] == OURS and finds(rule, held[0]):
                self.policy.remove(held)
                return
        raise KernelError("ip rule del", str(rule), "ENOENT")

    def flush_connections(self, which: Marked) -> None:
        self.faults.write(f"flush {which.words()}")
        self.flushed.append(which)
        self.faults.written()

    def learn_neighbours(self, wanted: Iterable[tuple[str, str]], seconds: float) -> None:
        """Gateways in this world do not answer unless the test's facts have them."""


def collides(rule: IpRule, held: IpRule) -> bool:
    """Whether the kernel refuses to add `rule` beside `held` (rule_exists)."""
    overlooked: dict[str, Any] = {"source": None, "destination": None, "target": None, "inverted": False}
    return replace(rule, **overlooked) == replace(held, **overlooked) and (
        _wild(_not_all(rule.source), held.source) and _wild(_not_all(rule.destination), held.destination)
    )


def finds(rule: IpRule, held: IpRule) -> bool:
    """Whether a request to delete `rule` takes `held` (rule_find)."""
    wild = ("source", "destination", "device", "out_device", "mark", "mask", "user", "protocol", *PORTS)
    return (
        (rule.priority, rule.action, rule.table) == (held.priority, held.action, held.table)
        and (not rule.suppress_default or held.suppress_default)
        and all(_wild(getattr(rule, name), getattr(held, name)) for name in wild)
    )


def _wild(asked: object, held: object) -> bool:
    return asked is None or asked == held


def _not_all(prefix: str | None) -> str | None:
    return None if prefix == "0.0.0.0/0" else prefix


def _within(address: str, network: str) -> bool:
    return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network, strict=False)


@dataclass
class Sysctl:
    faults: Faults
    values: dict[str, str] = field(default_factory=dict)

    def read(self, keys: Iterable[str]) -> Mapping[str, str]:
        return {key: self.values[key] for key in keys if key in self.values}

    def write(self, key: str, value: str) -> None:
        self.faults.write(f"{key} = {value}")
        if key not in self.values:
            raise KernelError("sysctl", key, "ENOENT")
        self.values[key] = value
        self.faults.written()


@dataclass
class Files:
    faults: Faults
    texts: dict[str, str] = field(default_factory=dict)

    def read(self, path: str) -> str | None:
        return self.texts.get(path)

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        self.faults.write(f"file {path} mode {mode:o}")
        if text is None:
            self.texts.pop(path, None)
        else:
            self.texts[path] = text
        self.faults.written()


@dataclass
class FirewallModel:
    """A FirewallPort. As with the real ones, the listing is not the text that was loaded."""

    name: str
    faults: Faults
    live: Firewall | None = None
    meddling: str = ""
    missing: str | None = None

    def unavailable(self) -> str | None:
        return self.missing

    def render(self, firewall: Firewall) -> str:
        return f"# {self.name}\n{nftables.render(firewall)}" if firewall else ""

    def listing(self) -> str:
        if self.live is None and not self.meddling:
            return ""
        return f"{self.name} lists:{self.meddling} {self.live}"

    def counters(self) -> Mapping[str, tuple[int, int]]:
        return dict.fromkeys(self.live.classification.counted(), (0, 0)) if self.live else {}

    def replace(self, firewall: Firewall) -> None:
        self.faults.write(f"load {self.name}")
        self.live, self.meddling = firewall, ""
        self.faults.written()

    def remove(self) -> None:
        self.faults.write(f"unload {self.name}")
        self.live, self.meddling = None, ""
        self.faults.written()


class ModelRouter:
    """A whole machine: devices and addresses by `facts`, what the kernel derives from them, and the four ports."""

    def __init__(self, facts: Facts) -> None:
        self.faults = Faults()
        self.routing = Routing(self.faults)
        self.sysctl = Sysctl(self.faults)
        self.files = Files(self.faults)
        self.nftables = FirewallModel("nftables", self.faults)
        self.iptables = FirewallModel("iptables", self.faults)
        self.ports = Router(
            self.routing, self.sysctl, self.files, {"nftables": self.nftables, "iptables": self.iptables}
        )
        for rule in (IpRule(0, 255), IpRule(32766, MAIN), IpRule(32767, 253)):
            self.routing.insert_rule(rule, BY_KERNEL)
        self.boot_sysctls(facts)
        self.set_facts(facts)

    def boot_sysctls(self, facts: Facts) -> None:
        self.sysctl.values = {
            "net/ipv4/ip_forward": "0",
            "net/ipv4/fib_multipath_hash_policy": "0",
            "net/ipv4/fib_multipath_use_neigh": "0",
            "net/ipv4/fwmark_reflect": "0",
            "net/ipv4/conf/all/src_valid_mark": "0",
        }
        for name in ("all", "default", *facts.devices):
            self._device_sysctls(name)

    def _device_sysctls(self, name: str) -> None:
        self.sysctl.values.setdefault(f"net/ipv4/conf/{name}/rp_filter", "0" if name == "all" else "2")
        self.sysctl.values.setdefault(f"net/ipv4/conf/{name}/ignore_routes_with_linkdown", "0")

    def set_facts(self, facts: Facts) -> None:
        """Devices and addresses change: the kernel makes connected routes and drops what lost its device or source."""
        before, self.routing.seen = self.routing.seen, facts
        for name in set(before.devices) - set(facts.devices):
            for key in [key for key in self.sysctl.values if f"conf/{name}/" in key]:
                del self.sysctl.values[key]
        for name in facts.devices:
            self._device_sysctls(name)
        rib = {key: held for key, held in self.routing.rib.items() if held[1] != BY_KERNEL}
        self.routing.rib = {key: held for key, held in rib.items() if not self._lost(held[0])}
        self._connect(facts)

    def _lost(self, route: Route) -> bool:
        """fib_sync_down_dev and fib_sync_down_addr; a multipath route goes whole when one device is deleted."""
        devices = [self.routing.seen.devices.get(hop.device) for hop in route.nexthops]
        source = route.source and route.source not in {item.address for item in self.routing.seen.addresses}
        return bool(source or None in devices or (devices and not any(device and device.up for device in devices)))

    def _connect(self, facts: Facts) -> None:
        defaults = {route for routes in facts.defaults.values() for route in routes}
        connected = {
            Route(
                MAIN, str(ipaddress.IPv4Network(f"{item.address}/{item.prefix_length}", strict=False)), kind="unicast"
            )
            for item in facts.addresses
            if facts.devices[item.device].up
        }
        for route in defaults | connected:
            if not self._lost(route):
                self.routing.rib.setdefault(route.key, (route, BY_KERNEL))

    def reboot(self) -> None:
        """Everything in memory is gone; files outside /run stay."""
        self.routing.rib = {key: held for key, held in self.routing.rib.items() if held[1] != OURS}
        self.routing.policy = [held for held in self.routing.policy if held[1] != OURS]
        self.nftables.live = self.iptables.live = None
        self.boot_sysctls(self.routing.seen)
        self.files.texts = {path: text for path, text in self.files.texts.items() if not path.startswith("/run/")}

    def snapshot(self) -> dict[str, object]:
        """Everything a run could change, for comparing; the order of rules of one priority is left out."""
        return {
            "routes": dict(self.routing.rib),
            "rules": sorted(map(repr, self.routing.policy)),
            "sysctls": dict(self.sysctl.values),
            "files": dict(self.files.texts),
            "nftables": self.nftables.listing(),
            "iptables": self.iptables.listing(),
        }

    def foreign(self) -> tuple[object, ...]:
        """What belongs to others."""
        routes = {key: held for key, held in self.routing.rib.items() if held[1] != OURS}
        return routes, [held for held in self.routing.policy if held[1] != OURS]

    def loaded(self) -> list[Firewall]:
        return [port.live for port in (self.nftables, self.iptables) if port.live is not None]

    def meddle(self, choose: random.Random) -> str:
        """Delete or alter one object of ours by hand, as another program would; returns which."""
        routes = sorted(self.routing.routes(), key=str)
        rules = sorted((held for held in self.routing.policy if held[1] == OURS), key=str)
        kinds = [kind for kind, there in (("route", routes), ("rule", rules), ("firewall", self.loaded())) if there]
        kind = choose.choice(kinds)
        if kind == "route":
            route = choose.choice(routes)
            del self.routing.rib[route.key]
            if choose.random() < 0.5:
                self.routing.rib[route.key] = (replace(route, kind="throw", nexthops=()), OURS)
            return f"route {route}"
        if kind == "rule":
            held = choose.choice(rules)
            self.routing.policy.remove(held)
            return f"rule {held[0]}"
        for port in (self.nftables, self.iptables):
            if port.live is not None:
                port.meddling = " one rule less,"
        return "firewall"
