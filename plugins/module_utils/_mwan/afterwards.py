# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the router still has a way out when everything of ours is gone, and whoever removes it still reaches it.

By netlink alone, since pyroute2 may be gone by then.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from . import layout, rtnl
from .errors import InputError, KernelError
from .kernel import MAIN
from .nfnetlink import parsed

# linux/rtnetlink.h
RTM_GETROUTE = 26
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_VIA = 1, 2, 4, 5, 6, 9, 18
BODY = struct.Struct("=8BI")  # struct rtmsg: family, lengths of dst and src, tos, table, protocol, scope, type; flags
NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, device
NUMBER = struct.Struct("=I")
ATTRIBUTE = struct.Struct("=HH")
DEAD = 0x1 | 0x10  # RTNH_F_DEAD, RTNH_F_LINKDOWN
UNICAST = 1  # RTN_UNICAST
REMEDY = "or set mwan_force: true (of mwan_library: force), and have another way to the router"

Way = tuple[int, bytes]  # device and gateway


@dataclass(frozen=True)
class Entry:
    """A route; `ways` are those nexthops that are alive."""

    network: ipaddress.IPv4Network
    metric: int
    kind: int
    ways: frozenset[Way]
    protocol: int = 0
    tos: int = 0


@dataclass(frozen=True)
class Session:
    """The SSH connection that a run came over, as addresses of both ends."""

    peer: ipaddress.IPv4Address
    own: ipaddress.IPv4Address


def check(session: Session | None) -> None:
    """Raises InputError where ours are the only ways out, or lead the session elsewhere than the main table would.

    A host that has no default route of ours loses none.
    """
    if not any(entry.network.prefixlen == 0 and entry.kind == UNICAST for entry in _routes(ours=True)):
        return
    main = _routes(ours=False)
    if not leading(main, ipaddress.IPv4Address(0)):
        problem = "would leave the router without a way out: the main table has no default route that works"
        raise InputError("state", "absent", problem, f"Give it one first, {REMEDY}")
    now = _led(session) if session else None
    if session and now and now not in leading(main, session.peer):
        problem = f"would cut this very session: {session.peer} is reached over {_name(now)}, and not by the main table"
        raise InputError("state", "absent", problem, f"Add a route to it first, or come over another link, {REMEDY}")


def leading(table: list[Entry], address: ipaddress.IPv4Address) -> frozenset[Way]:
    """Where the table sends it: longest prefix, lowest metric, nexthops that are alive (fib_table_lookup)."""
    matching = [entry for entry in table if address in entry.network and (entry.ways or entry.kind != UNICAST)]
    found = min(matching, key=lambda entry: (-entry.network.prefixlen, entry.metric), default=None)
    return found.ways if found and found.kind == UNICAST else frozenset()


def session_of(process: int, proc: str = "/proc") -> Session | None:
    """The SSH connection that the process descends from.

    sudo takes it out of the environment; the shell that sshd has started still has it in its own.
    """
    while process > 1:
        try:
            with open(os.path.join(proc, str(process), "environ"), "rb") as environ:
                found = [text for text in environ.read().split(b"\0") if text.startswith(b"SSH_CONNECTION=")]
            with open(os.path.join(proc, str(process), "stat"), encoding="utf-8", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            return None
        if found:
            return _session(found[0].decode(errors="replace").partition("=")[2].split())
        process = parent
    return None


def _session(words: list[str]) -> Session | None:
    """Address and port of the client, then of the server (ssh(1)); what is IPv6 is none of ours."""
    try:
        return Session(ipaddress.IPv4Address(words[0]), ipaddress.IPv4Address(words[2]))
    except (ValueError, IndexError):
        return None


def _routes(ours: bool) -> list[Entry]:
    """Ours of all tables, or the main table without ours, as the kernel filters them."""
    table, protocol = (0, layout.PROTOCOL) if ours else (MAIN, 0)
    body = BODY.pack(socket.AF_INET, 0, 0, 0, table, protocol, 0, 0, 0)
    with closing(rtnl.Channel()) as channel:
        try:
            found = channel.dump(RTM_GETROUTE, bytes(rtnl.HEADER.size) + body)
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # there is no main table before its first route
                raise KernelError("list", "routes", str(exc.strerror)) from exc
            found = []
    # those of a type of service lead no session
    return [entry for entry in map(_entry, found) if not entry.tos and (entry.protocol == layout.PROTOCOL) == ours]


def _entry(message: bytes) -> Entry:
    _family, length, _src, tos, _table, protocol, _scope, kind, flags = BODY.unpack_from(message, rtnl.HEADER.size)
    attributes = parsed(message[rtnl.HEADER.size + BODY.size :])
    network = ipaddress.IPv4Network((attributes.get(RTA_DST, bytes(4)), length))
    metric = NUMBER.unpack(attributes.get(RTA_PRIORITY, bytes(4)))[0]
    return Entry(network, metric, kind, frozenset(_ways(attributes, flags)), protocol, tos)


def _ways(attributes: dict[int, bytes], flags: int) -> Iterator[Way]:
    if RTA_OIF in attributes and not flags & DEAD:
        yield NUMBER.unpack(attributes[RTA_OIF])[0], _gateway(attributes)
    hops = attributes.get(RTA_MULTIPATH, b"")
    while hops:
        length, state, _hops, device = NEXTHOP.unpack_from(hops)
        if not state & DEAD:
            yield device, _gateway(parsed(hops[NEXTHOP.size : length]))
        hops = hops[length + 3 & ~3 :]


def _gateway(attributes: dict[int, bytes]) -> bytes:
    return attributes.get(RTA_GATEWAY) or attributes.get(RTA_VIA, b"")


def _led(session: Session) -> Way | None:
    """The way of the session now; None where it ends on this host, or its address is of another one's."""
    body = BODY.pack(socket.AF_INET, 32, 32, 0, 0, 0, 0, 0, 0)
    ends = ((RTA_DST, session.peer), (RTA_SRC, session.own))
    attributes = b"".join(ATTRIBUTE.pack(8, kind) + address.packed for kind, address in ends)
    with closing(rtnl.Channel()) as channel:
        try:
            answer = channel.ask(RTM_GETROUTE, bytes(rtnl.HEADER.size) + body + attributes)
        except OSError:
            return None
    return next((way for entry in map(_entry, answer) if entry.kind == UNICAST for way in entry.ways), None)


def _name(way: Way) -> str:
    try:
        return socket.if_indextoname(way[0])
    except OSError:
        return f"device {way[0]}"
