# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""rtnetlink and ctnetlink as pyroute2 words them; the only file that imports it (0.7.2 to 0.9.x are the same here)."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from . import layout, rtnl
from .errors import KernelError
from .kernel import DEFAULT, Address, Device, Facts, IpRule, Nexthop, Route


def _too_old() -> str | None:
    """Releases before 0.7 cannot delete connections by mark.

    Distributions ship the library with an unknown __version__, so the name of the metadata beside it tells the release;
    importlib.metadata would, too, and takes longer to load than the rest of us.
    """
    spec = find_spec("pyroute2")
    beside = os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else ""
    found = (re.match(r"pyroute2-(0\.[0-6]\b[^-]*)", name) for name in os.listdir(beside or "."))
    return next((f"pyroute2 {match[1]} is too old" for match in found if match), None)


@contextmanager
def _bare_package(name: str) -> Iterator[None]:
    """Let modules of a package be imported without the package's own code.

    `import pyroute2` loads all that pyroute2 has, which takes longer than everything else a run does on most routers.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    bare = ModuleType(name)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = bare
    try:
        yield
    finally:
        del sys.modules[name]


try:
    with _bare_package("pyroute2"):
        from pyroute2.netlink.rtnl.fibmsg import fibmsg
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
except ImportError:
    PYROUTE2_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    PYROUTE2_IMPORT_ERROR = _too_old()

# linux/rtnetlink.h
RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH = 18, 22, 30
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTEXT_FILTER_SKIP_STATS = 8
KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
KIND_NUMBERS = {name: number for number, name in KINDS.items()}
RTNH_F_ONLINK = 4
# linux/netlink.h: create, and exclusively or in place of what is there
ADD, REPLACE = 0x400 | 0x200, 0x400 | 0x100
# linux/fib_rules.h
FR_ACT_TO_TBL = 1
# linux/if.h, linux/neighbour.h
IFF_UP, IFF_POINTOPOINT, IFF_NOARP = 0x1, 0x10, 0x80
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # reachable, stale, delay, probe, noarp, permanent
IFA_F_SECONDARY = 0x01
DISCARD_PORT = 9


class Netlink:
    """The RoutingPort of this network namespace. Open sockets are closed by `close` or with the process."""

    def __init__(self) -> None:
        self._channel = rtnl.Channel()
        self._index: dict[str, int] = {}
        self._name: dict[int, str] = {}

    def close(self) -> None:
        self._channel.close()

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
        messages = self._dump("devices", RTM_GETLINK, ifinfmsg, [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)])
        self._name = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
        self._index = {name: index for index, name in self._name.items()}
        return {device.name: device for device in map(_device, messages)}

    def _addresses(self) -> Iterator[Address]:
        listed = self._dump("addresses", RTM_GETADDR, ifaddrmsg, family=socket.AF_INET)
        messages = [message for message in listed if message["scope"] == 0]
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
        for message in self._dump("neighbours", RTM_GETNEIGH, ndmsg, family=socket.AF_INET):
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

    def _dump_routes(self, **filters: int) -> list[Any]:
        return self._dump("routes", RTM_GETROUTE, rtmsg, family=socket.AF_INET, **filters)

    def _dump(self, what: str, kind: int, form: Any, attributes: Any = (), **fields: int) -> list[Any]:
        """Every object of a kind that has these fields, decoded; `form` is the class of pyroute2's message."""
        try:
            answers = self._channel.dump(kind, _encoded(form(), fields, attributes))
        except OSError as exc:
            if exc.errno == errno.ENOENT:  # a table that was never used
                return []
            raise KernelError("list", what, _reason(exc.errno)) from exc
        return [_decoded(form, answer) for answer in answers]

    def routes(self) -> frozenset[Route]:
        messages = self._dump_routes(proto=layout.PROTOCOL)
        return frozenset(self._route(message) for message in messages if message["proto"] == layout.PROTOCOL)

    def rules(self) -> frozenset[IpRule]:
        return frozenset(_rule(message) for message in self._dump_rules() if _protocol(message) == layout.PROTOCOL)

    def foreign_rules(self) -> tuple[IpRule, ...]:
        return tuple(_rule(message) for message in self._dump_rules() if _protocol(message) != layout.PROTOCOL)

    def _dump_rules(self) -> list[Any]:
        return self._dump("rules", RTM_GETRULE, fibmsg, family=socket.AF_INET)

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
                device=self._device_name(index),
                gateway=hop.get_attr("RTA_GATEWAY"),
                weight=1 if hop is message else hop["hops"] + 1,
                onlink=bool(hop["flags"] & RTNH_F_ONLINK),
                realm=hop.get_attr("RTA_FLOW"),
            )

    # changing

    def change_route(self, before: Route | None, after: Route | None) -> None:
        if after:
            verb, flags = ("replace", REPLACE) if before else ("add", ADD)
            self._change(f"ip route {verb}", after, RTM_NEWROUTE, flags, self._route_message(after))
        elif before:
            self._change("ip route del", before, RTM_DELROUTE, 0, self._route_message(before))

    def _route_message(self, route: Route) -> bytes:
        destination, length = _halves(None if route.destination == DEFAULT else route.destination)
        kind = KIND_NUMBERS[route.kind]
        fields = {"family": socket.AF_INET, "dst_len": length, "proto": layout.PROTOCOL, "type": kind}
        attributes: list[tuple[str, Any]] = [
            ("RTA_TABLE", route.table),
            ("RTA_DST", destination),
            ("RTA_PRIORITY", route.metric or None),
            ("RTA_PREFSRC", route.source),
        ]
        if len(route.nexthops) == 1:
            hop = route.nexthops[0]
            fields["flags"] = _hop_flags(hop)
            attributes += [("RTA_OIF", self._device_index(hop.device)), *_hop_attributes(hop)]
        elif route.nexthops:
            attributes.append(("RTA_MULTIPATH", [self._hop(hop) for hop in route.nexthops]))
        return _encoded(rtmsg(), fields, attributes)

    def _hop(self, hop: Nexthop) -> dict[str, Any]:
        return {
            "oif": self._device_index(hop.device),
            "hops": hop.weight - 1,
            "flags": _hop_flags(hop),
            "attrs": _present(_hop_attributes(hop)),
        }

    def _device_name(self, index: int) -> str:
        """The kernel may have got the device since `facts`, or lost it since the route was listed."""
        if index not in self._name:
            self._devices()
        return self._name.get(index, f"if{index}")

    def _device_index(self, device: str) -> int:
        if device not in self._index:
            self._devices()
        try:
            return self._index[device]
        except KeyError:
            raise KernelError("find", f"device {device}", "it does not exist any more") from None

    def change_rule(self, before: IpRule | None, after: IpRule | None) -> None:
        if after:
            self._change("ip rule add", after, RTM_NEWRULE, ADD, _rule_message(after))
        elif before:
            self._change("ip rule del", before, RTM_DELRULE, 0, _rule_message(before))

    def _change(self, operation: str, subject: Route | IpRule, kind: int, flags: int, message: bytes) -> None:
        try:
            self._channel.request(kind, flags, message)
        except OSError as exc:
            table = f" table {subject.table}" if isinstance(subject, Route) else ""
            raise KernelError(operation, f"{subject}{table}", _reason(exc.errno)) from exc

    def flush_connections(self, mark: int, mask: int) -> None:
        """Covers IPv4 and IPv6; mark 0 is refused, because the kernel takes it for everything."""
        if not mark:
            raise KernelError("conntrack -D", "mark 0", "would delete every connection of the host")
        # seldom needed, and slow to load
        with _bare_package("pyroute2"):
            from pyroute2.netlink.exceptions import NetlinkError
            from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

        conntrack = NFCTSocket()
        try:
            list(conntrack.flush(mark=mark, mark_mask=mask) or ())
        except NetlinkError as exc:
            raise KernelError("conntrack -D", f"mark 0x{mark:x}/0x{mask:x}", _reason(exc.code)) from exc
        finally:
            conntrack.close()

    def learn_neighbours(self, wanted: Iterable[tuple[str, str]], seconds: float) -> None:
        missing = set(wanted)
        for device, address in missing:
            _knock(device, address)
        deadline = time.monotonic() + seconds
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


def _hop_flags(hop: Nexthop) -> int:
    return RTNH_F_ONLINK if hop.onlink else 0


def _hop_attributes(hop: Nexthop) -> list[tuple[str, Any]]:
    return [("RTA_GATEWAY", hop.gateway), ("RTA_FLOW", hop.realm)]


def _rule_message(rule: IpRule) -> bytes:
    source, source_length = _halves(rule.source)
    destination, destination_length = _halves(rule.destination)
    lengths = {"src_len": source_length, "dst_len": destination_length}
    fields = {"family": socket.AF_INET, "action": FR_ACT_TO_TBL, **lengths}
    attributes = [
        ("FRA_PRIORITY", rule.priority),
        ("FRA_TABLE", rule.table),
        ("FRA_PROTOCOL", layout.PROTOCOL),
        ("FRA_SRC", source),
        ("FRA_DST", destination),
        ("FRA_IIFNAME", rule.device),
        ("FRA_FWMARK", rule.mark),
        ("FRA_FWMASK", rule.mask),
        ("FRA_IP_PROTO", rule.protocol),
        ("FRA_SPORT_RANGE", _range(rule.source_port)),
        ("FRA_DPORT_RANGE", _range(rule.destination_port)),
        ("FRA_SUPPRESS_PREFIXLEN", 0 if rule.suppress_default else None),
    ]
    return _encoded(fibmsg(), fields, attributes)


def _halves(prefix: str | None) -> tuple[str | None, int]:
    address, _slash, length = (prefix or "").partition("/")
    return address or None, int(length or 0)


def _encoded(message: Any, fields: dict[str, int], attributes: Iterable[tuple[str, Any]]) -> bytes:
    """The octets of a pyroute2 message."""
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = _present(attributes)
    message.encode()
    return bytes(message.data)


def _present(attributes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in attributes if value is not None]


def _decoded(form: Any, answer: bytes) -> Any:
    message = form(answer)
    message.decode()
    return message


def _range(ports: tuple[int, int] | None) -> str | None:
    return f"{ports[0]}:{ports[1]}" if ports else None


def _reason(code: int | None) -> str:
    return f"{os.strerror(code or 0)} (errno {errno.errorcode.get(code or 0, code)})"
