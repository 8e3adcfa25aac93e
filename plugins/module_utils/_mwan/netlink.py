# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""rtnetlink and ctnetlink through pyroute2: the only file that imports it (0.7.2 to 0.9.x behave the same here)."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

from . import layout
from .errors import KernelError
from .kernel import DEFAULT, Address, Device, Facts, IpRule, Nexthop, Route


def _too_old() -> str | None:
    """Releases before 0.7 cannot filter a dump in the kernel, or delete connections by mark.

    Asks the installed package's metadata, because distributions ship the library with an unknown __version__.
    """
    try:
        release = metadata.version("pyroute2")
    except metadata.PackageNotFoundError:
        return None
    old = re.match(r"0\.[0-6]\b", release)
    return f"pyroute2 {release} is too old" if old else None


try:
    from pyroute2 import IPRoute, NFCTSocket
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError:
    PYROUTE2_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    PYROUTE2_IMPORT_ERROR = _too_old()

# linux/rtnetlink.h
KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
RTNH_F_ONLINK = 4
# linux/if.h, linux/neighbour.h
IFF_UP, IFF_POINTOPOINT, IFF_NOARP = 0x1, 0x10, 0x80
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
IFA_F_SECONDARY = 0x01
DISCARD_PORT = 9
NEIGHBOUR_WAIT = 1.0  # seconds; the kernel repeats an unanswered ARP request after one


class Netlink:
    """The RoutingPort of this network namespace. Open sockets are closed by `close` or with the process."""

    def __init__(self) -> None:
        self._ip = IPRoute(strict_check=True)
        self._index: dict[str, int] = {}
        self._name: dict[int, str] = {}

    def close(self) -> None:
        self._ip.close()

    # observing

    def facts(self) -> Facts:
        devices = self._devices()
        return Facts(
            devices=devices,
            addresses=tuple(self._addresses()),
            neighbours=dict(self._neighbours()),
            defaults=self._defaults(),
        )

    def _devices(self) -> dict[str, Device]:
        messages = list(self._ip.get_links())
        self._name = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
        self._index = {name: index for index, name in self._name.items()}
        return {device.name: device for device in map(_device, messages)}

    def _addresses(self) -> Iterator[Address]:
        messages = [message for message in self._ip.get_addr(family=socket.AF_INET) if message["scope"] == 0]
        # primary addresses first, as source address selection has them
        for message in sorted(messages, key=lambda item: bool((item.get_attr("IFA_FLAGS") or 0) & IFA_F_SECONDARY)):
            local, peer = message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")
            yield Address(
                self._name.get(message["index"], ""),
                local or peer,
                message["prefixlen"],
                peer if local and peer != local else None,
            )

    def _neighbours(self) -> Iterator[tuple[tuple[str, str], str]]:
        for message in self._ip.get_neighbours(family=socket.AF_INET):
            mac = message.get_attr("NDA_LLADDR")
            if mac and message["state"] & NUD_USABLE and message["ifindex"] in self._name:
                yield (self._name[message["ifindex"]], message.get_attr("NDA_DST")), mac.lower()

    def _defaults(self) -> dict[str, tuple[Route, ...]]:
        found: dict[str, list[Route]] = {}
        for message in self._dump_routes(table=254):
            if message["dst_len"] == 0 and message["proto"] != layout.PROTOCOL and message["type"] == 1:
                route = self._route(message)
                for hop in route.nexthops:
                    found.setdefault(hop.device, []).append(route)
        return {device: tuple(sorted(routes, key=lambda route: route.metric)) for device, routes in found.items()}

    def _dump_routes(self, **filters: Any) -> Iterable[Any]:
        try:
            return list(self._ip.get_routes(family=socket.AF_INET, **filters))
        except NetlinkError as exc:
            if exc.code == errno.ENOENT:  # a strict dump of a table that was never used
                return []
            raise KernelError("list", "routes", _reason(exc)) from exc

    def routes(self) -> frozenset[Route]:
        self._devices()
        messages = self._dump_routes(proto=layout.PROTOCOL)
        return frozenset(self._route(message) for message in messages if message["proto"] == layout.PROTOCOL)

    def rules(self) -> frozenset[IpRule]:
        return frozenset(_rule(message) for message in self._dump_rules() if _protocol(message) == layout.PROTOCOL)

    def foreign_rules(self) -> tuple[IpRule, ...]:
        return tuple(_rule(message) for message in self._dump_rules() if _protocol(message) != layout.PROTOCOL)

    def _dump_rules(self) -> Iterable[Any]:
        return list(self._ip.get_rules(family=socket.AF_INET))

    def _route(self, message: Any) -> Route:
        destination = message.get_attr("RTA_DST")
        return Route(
            table=message.get_attr("RTA_TABLE") or message["table"],
            destination=f"{destination}/{message['dst_len']}" if destination else DEFAULT,
            metric=message.get_attr("RTA_PRIORITY") or 0,
            kind=KINDS.get(message["type"], "unicast"),
            nexthops=tuple(self._nexthops(message)),
            source=message.get_attr("RTA_PREFSRC"),
        )

    def _nexthops(self, message: Any) -> Iterator[Nexthop]:
        hops = message.get_attr("RTA_MULTIPATH")
        if hops is None:
            hops = [message] if message.get_attr("RTA_OIF") else []
        for hop in hops:
            index = hop.get_attr("RTA_OIF") if hop is message else hop["oif"]
            yield Nexthop(
                device=self._name.get(index, f"if{index}"),
                gateway=hop.get_attr("RTA_GATEWAY"),
                weight=1 if hop is message else hop["hops"] + 1,
                onlink=bool(hop["flags"] & RTNH_F_ONLINK),
                realm=hop.get_attr("RTA_FLOW"),
            )

    # changing

    def change_route(self, before: Route | None, after: Route | None) -> None:
        if after:
            self._send_route("replace" if before else "add", after)
        elif before:
            self._send_route("del", before)

    def _send_route(self, verb: str, route: Route) -> None:
        self._change(
            f"ip route {verb}",
            f"{route} table {route.table}",
            lambda: self._ip.route(verb, **self._route_request(route)),
        )

    def _route_request(self, route: Route) -> dict[str, Any]:
        request: dict[str, Any] = {
            "family": socket.AF_INET,
            "table": route.table,
            "proto": layout.PROTOCOL,
            "dst": route.destination,
        }
        if route.destination == DEFAULT:
            request["dst_len"] = 0
        if route.metric:
            request["priority"] = route.metric
        if route.kind != "unicast":
            request["type"] = route.kind
        if route.source:
            request["prefsrc"] = route.source
        if len(route.nexthops) == 1:
            request.update(self._single(route.nexthops[0]))
        elif route.nexthops:
            request["multipath"] = [self._hop(hop) for hop in route.nexthops]
        return request

    def _single(self, hop: Nexthop) -> dict[str, Any]:
        request: dict[str, Any] = {"oif": self._device_index(hop.device)}
        if hop.gateway:
            request["gateway"] = hop.gateway
        if hop.onlink:
            request["flags"] = RTNH_F_ONLINK
        if hop.realm is not None:
            request["flow"] = hop.realm
        return request

    def _hop(self, hop: Nexthop) -> dict[str, Any]:
        request: dict[str, Any] = {"oif": self._device_index(hop.device), "hops": hop.weight - 1}
        if hop.onlink:
            request["flags"] = RTNH_F_ONLINK
        attributes = [("RTA_GATEWAY", hop.gateway)] if hop.gateway else []
        attributes += [("RTA_FLOW", hop.realm)] if hop.realm is not None else []  # type: ignore[list-item]
        return {**request, "attrs": attributes}

    def _device_index(self, device: str) -> int:
        if device not in self._index:
            self._devices()
        try:
            return self._index[device]
        except KeyError:
            raise KernelError("find", f"device {device}", "it does not exist any more") from None

    def change_rule(self, before: IpRule | None, after: IpRule | None) -> None:
        if after:
            self._send_rule("add", after)
        elif before:
            self._send_rule("del", before)

    def _send_rule(self, verb: str, rule: IpRule) -> None:
        self._change(f"ip rule {verb}", str(rule), lambda: self._ip.rule(verb, **_rule_request(rule)))

    def _change(self, operation: str, subject: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except NetlinkError as exc:
            raise KernelError(operation, subject, _reason(exc)) from exc

    def flush_connections(self, mark: int, mask: int) -> None:
        """Covers IPv4 and IPv6; mark 0 is refused, because the kernel takes it for everything."""
        if not mark:
            raise KernelError("conntrack -D", "mark 0", "would delete every connection of the host")
        conntrack = NFCTSocket()
        try:
            list(conntrack.flush(mark=mark, mark_mask=mask) or ())
        except NetlinkError as exc:
            raise KernelError("conntrack -D", f"mark 0x{mark:x}/0x{mask:x}", _reason(exc)) from exc
        finally:
            conntrack.close()

    def learn_neighbours(self, wanted: Iterable[tuple[str, str]]) -> None:
        missing = set(wanted)
        for device, address in missing:
            _knock(device, address)
        deadline = time.monotonic() + NEIGHBOUR_WAIT
        while missing and time.monotonic() < deadline:
            time.sleep(0.02)
            missing -= dict(self._neighbours()).keys()


def _knock(device: str, address: str) -> None:
    """Send one empty datagram to the discard port, which makes the kernel resolve the neighbour.

    Errors mean it is not there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
        try:
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
            knock.sendto(b"", (address, DISCARD_PORT))
        except OSError:
            return


def _device(message: Any) -> Device:
    flags = message["flags"]
    carrier = message.get_attr("IFLA_CARRIER")
    return Device(
        message.get_attr("IFLA_IFNAME"),
        up=bool(flags & IFF_UP),
        carrier=carrier != 0,
        point_to_point=bool(flags & IFF_POINTOPOINT) or bool(flags & IFF_NOARP),
    )


def _protocol(message: Any) -> int:
    return message.get_attr("FRA_PROTOCOL") or 0


def _rule(message: Any) -> IpRule:
    mark = message.get_attr("FRA_FWMARK")
    return IpRule(
        priority=message.get_attr("FRA_PRIORITY") or 0,
        table=message.get_attr("FRA_TABLE") or message["table"],
        source=_rule_prefix(message, "src"),
        destination=_rule_prefix(message, "dst"),
        device=message.get_attr("FRA_IIFNAME"),
        mark=mark,
        mask=message.get_attr("FRA_FWMASK") if mark is not None else None,
        protocol=message.get_attr("FRA_IP_PROTO"),
        source_port=_rule_ports(message, "FRA_SPORT_RANGE"),
        destination_port=_rule_ports(message, "FRA_DPORT_RANGE"),
        suppress_default=message.get_attr("FRA_SUPPRESS_PREFIXLEN") == 0,
    )


def _rule_prefix(message: Any, side: str) -> str | None:
    address = message.get_attr(f"FRA_{side.upper()}")
    return f"{address}/{message[side + '_len']}" if address else None


def _rule_ports(message: Any, name: str) -> tuple[int, int] | None:
    low, _colon, high = (message.get_attr(name) or "").partition(":")
    return (int(low), int(high)) if low else None


def _rule_request(rule: IpRule) -> dict[str, Any]:
    request: dict[str, Any] = {
        "family": socket.AF_INET,
        "priority": rule.priority,
        "table": rule.table,
        "protocol": layout.PROTOCOL,
        "iifname": rule.device,
        "fwmark": rule.mark,
        "fwmask": rule.mask,
        "ip_proto": rule.protocol,
        "sport_range": _range(rule.source_port),
        "dport_range": _range(rule.destination_port),
        "FRA_SUPPRESS_PREFIXLEN": 0 if rule.suppress_default else None,
    }
    for side, prefix in (("src", rule.source), ("dst", rule.destination)):
        if prefix:
            address, _slash, length = prefix.partition("/")
            request.update({side: address, side + "_len": int(length)})
    return {key: value for key, value in request.items() if value is not None}


def _range(ports: tuple[int, int] | None) -> str | None:
    return f"{ports[0]}:{ports[1]}" if ports else None


def _reason(exc: Any) -> str:
    return f"{os.strerror(exc.code) if exc.code else exc} (errno {errno.errorcode.get(exc.code, exc.code)})"
