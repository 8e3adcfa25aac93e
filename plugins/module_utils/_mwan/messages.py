# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""rtnetlink as pyroute2 words it; the only file that imports it (0.7.2 to 0.9.x are the same here).

Functions that need a device's name or index for the other one are given who knows it.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from . import layout, nfnetlink, rtnl
from .kernel import DEFAULT, Address, Device, IpRule, Nexthop, Route

NameOf = Callable[[int], str]
IndexOf = Callable[[str], int]

# linux/rtnetlink.h
_KINDS = "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"
KINDS = dict(enumerate(_KINDS, 1))
KIND_NUMBERS = {name: number for number, name in KINDS.items()}
RTNH_F_ONLINK = 4
# linux/fib_rules.h
ACTIONS = {1: "lookup", 2: "goto", 3: "nop"}
ACTION_NUMBERS = {name: number for number, name in ACTIONS.items()}
FIB_RULE_INVERT = 2
SUPPRESS_NOTHING = (None, 0xFFFFFFFF)
# what `rule` reads, and what says nothing of the way (the realm, padding): not tunnels, VRF, DSCP and flow labels
FRA_READ = {1, 2, 3, 4, 6, 10, 11, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24}
# masks of single ports, which kernels from 6.15 on tell even where they are whole
FRA_SPORT_MASK, FRA_DPORT_MASK = 28, 29
RULE_HEADER = rtnl.HEADER.size + 12  # struct fib_rule_hdr
# linux/if.h
IFF_UP, IFF_POINTOPOINT, IFF_NOARP = 0x1, 0x10, 0x80


def _too_old() -> str | None:
    """Releases before 0.7 are refused: nobody has tried them.

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
    LINK, ADDRESS, NEIGHBOUR, ROUTE, RULE = ifinfmsg, ifaddrmsg, ndmsg, rtmsg, fibmsg


def encoded(message: Any, fields: dict[str, int], attributes: Iterable[tuple[str, Any]]) -> bytes:
    """The octets of a pyroute2 message."""
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = _present(attributes)
    message.encode()
    return bytes(message.data)


def _present(attributes: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in attributes if value is not None]


def decoded(form: Any, octets: bytes) -> Any:
    message = form(octets)
    message.decode()
    return message


def device(message: Any) -> Device:
    flags = message["flags"]
    carrier = message.get_attr("IFLA_CARRIER")
    return Device(
        message.get_attr("IFLA_IFNAME"),
        up=bool(flags & IFF_UP),
        carrier=carrier != 0,
        point_to_point=bool(flags & IFF_POINTOPOINT) or bool(flags & IFF_NOARP),
    )


def address(message: Any, name_of: NameOf) -> Address:
    local, peer = message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")
    return Address(
        name_of(message["index"]), local or peer, message["prefixlen"], peer if local and peer != local else None
    )


def route_table(message: Any) -> int:
    return int(message.get_attr("RTA_TABLE") or message["table"])


def route(message: Any, name_of: NameOf) -> Route:
    destination = message.get_attr("RTA_DST")
    return Route(
        table=route_table(message),
        destination=f"{destination}/{message['dst_len']}" if destination else DEFAULT,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        kind=KINDS.get(message["type"], "unicast"),
        nexthops=tuple(_nexthops(message, name_of)),
        source=message.get_attr("RTA_PREFSRC"),
    )


def _nexthops(message: Any, name_of: NameOf) -> Iterator[Nexthop]:
    hops = message.get_attr("RTA_MULTIPATH")
    if hops is None:
        hops = [message] if message.get_attr("RTA_OIF") else []
    for hop in hops:
        yield Nexthop(
            device=name_of(hop.get_attr("RTA_OIF") if hop is message else hop["oif"]),
            gateway=hop.get_attr("RTA_GATEWAY"),
            weight=1 if hop is message else hop["hops"] + 1,
            onlink=bool(hop["flags"] & RTNH_F_ONLINK),
            realm=hop.get_attr("RTA_FLOW"),
        )


def route_message(route: Route, index_of: IndexOf) -> bytes:
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
        attributes += [("RTA_OIF", index_of(hop.device)), *_hop_attributes(hop)]
    elif route.nexthops:
        attributes.append(("RTA_MULTIPATH", [_hop(hop, index_of) for hop in route.nexthops]))
    return encoded(ROUTE(), fields, attributes)


def _hop(hop: Nexthop, index_of: IndexOf) -> dict[str, Any]:
    return {
        "oif": index_of(hop.device),
        "hops": hop.weight - 1,
        "flags": _hop_flags(hop),
        "attrs": _present(_hop_attributes(hop)),
    }


def _hop_flags(hop: Nexthop) -> int:
    return RTNH_F_ONLINK if hop.onlink else 0


def _hop_attributes(hop: Nexthop) -> list[tuple[str, Any]]:
    return [("RTA_GATEWAY", hop.gateway), ("RTA_FLOW", hop.realm)]


def rule_protocol(message: Any) -> int:
    return int(message.get_attr("FRA_PROTOCOL") or 0)


def rule(message: Any) -> IpRule:
    action = ACTIONS.get(message["action"], "lookup")
    # the kernel leaves out what is 0
    mask = message.get_attr("FRA_FWMASK")
    return IpRule(
        priority=message.get_attr("FRA_PRIORITY") or 0,
        table=(message.get_attr("FRA_TABLE") or message["table"]) if action == "lookup" else 0,
        source=_rule_prefix(message, "src"),
        destination=_rule_prefix(message, "dst"),
        device=message.get_attr("FRA_IIFNAME"),
        mark=None if mask is None else message.get_attr("FRA_FWMARK") or 0,
        mask=mask,
        protocol=message.get_attr("FRA_IP_PROTO"),
        source_port=_rule_range(message, "FRA_SPORT_RANGE"),
        destination_port=_rule_range(message, "FRA_DPORT_RANGE"),
        suppress_default=message.get_attr("FRA_SUPPRESS_PREFIXLEN") == 0,
        out_device=message.get_attr("FRA_OIFNAME"),
        user=_rule_range(message, "FRA_UID_RANGE"),
        action=action,
        target=message.get_attr("FRA_GOTO"),
        inverted=bool(message["flags"] & FIB_RULE_INVERT),
    )


def rule_is_plain(message: Any) -> bool:
    """Whether `rule` tells all that it matches and does: others may have rules that refuse, look at DSCP and so on.

    pyroute2 has no names for what is younger than itself.
    """
    present = nfnetlink.parsed(bytes(message.data)[RULE_HEADER:])
    return (
        message["action"] in ACTIONS
        and not message["tos"]
        and all(number in FRA_READ or _is_whole_port(number, value) for number, value in present.items())
        and message.get_attr("FRA_SUPPRESS_PREFIXLEN") in (*SUPPRESS_NOTHING, 0)
        and message.get_attr("FRA_SUPPRESS_IFGROUP") in SUPPRESS_NOTHING
    )


def _is_whole_port(number: int, value: bytes) -> bool:
    return number in (FRA_SPORT_MASK, FRA_DPORT_MASK) and value == b"\xff\xff"


def _rule_prefix(message: Any, side: str) -> str | None:
    address = message.get_attr(f"FRA_{side.upper()}")
    return f"{address}/{message[side + '_len']}" if address else None


def _rule_range(message: Any, name: str) -> tuple[int, int] | None:
    low, _colon, high = (message.get_attr(name) or "").partition(":")
    return (int(low), int(high)) if low else None


def rule_message(rule: IpRule) -> bytes:
    source, source_length = _halves(rule.source)
    destination, destination_length = _halves(rule.destination)
    lengths = {"src_len": source_length, "dst_len": destination_length}
    flags = FIB_RULE_INVERT if rule.inverted else 0
    fields = {"family": socket.AF_INET, "action": ACTION_NUMBERS[rule.action], "flags": flags, **lengths}
    attributes = [
        ("FRA_PRIORITY", rule.priority),
        ("FRA_TABLE", rule.table),
        ("FRA_PROTOCOL", layout.PROTOCOL),
        ("FRA_SRC", source),
        ("FRA_DST", destination),
        ("FRA_IIFNAME", rule.device),
        ("FRA_OIFNAME", rule.out_device),
        ("FRA_GOTO", rule.target),
        ("FRA_UID_RANGE", _range(rule.user)),
        ("FRA_FWMARK", rule.mark),
        ("FRA_FWMASK", rule.mask),
        ("FRA_IP_PROTO", rule.protocol),
        ("FRA_SPORT_RANGE", _range(rule.source_port)),
        ("FRA_DPORT_RANGE", _range(rule.destination_port)),
        ("FRA_SUPPRESS_PREFIXLEN", 0 if rule.suppress_default else None),
    ]
    return encoded(RULE(), fields, attributes)


def _halves(prefix: str | None) -> tuple[str | None, int]:
    address, _slash, length = (prefix or "").partition("/")
    return address or None, int(length or 0)


def _range(ports: tuple[int, int] | None) -> str | None:
    return f"{ports[0]}:{ports[1]}" if ports else None
