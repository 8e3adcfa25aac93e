# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""The kernel's notifications, on a socket that does nothing else, in an asyncio loop.

A filter in the kernel keeps away what is not watched: the neighbours of a busy LAN, and the routes a routing daemon
writes by the hundred thousand. They would not only cost time; they would push out what matters.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection

from . import layout, rtnl
from .events import (
    FAMILY,
    ROUTE_LENGTH,
    ROUTE_PROTOCOL,
    ROUTE_TABLE,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    Event,
    Overrun,
    Reader,
    Watched,
)
from .kernel import MAIN
from .probes.arp import LOAD_WORD
from .probes.binding import attach_filter
from .probes.icmp import JUMP_IF_EQUAL, LOAD_BYTE, LOAD_HALF, RETURN

# linux/rtnetlink.h: link, neighbour, ipv4 address, ipv4 route, ipv4 rule
RTMGRP_LINK, RTMGRP_NEIGH, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE = 0x1, 0x4, 0x10, 0x40, 0x80
GROUPS = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE
SO_RCVBUFFORCE = 33  # beyond net.core.rmem_max, with CAP_NET_ADMIN
# Memory is taken only for what waits. The kernel doubles the figure and counts some 700 octets for a small message.
RECEIVE_BUFFER = 4 << 20
MOST_WAITING = 100_000  # more than fit into the buffer
TURN = 100  # messages read before the loop may do something else

# linux/bpf_common.h, linux/filter.h
LOAD_CONSTANT, LOAD_CONSTANT_X, LOAD_WORD_AT_X, COPY_TO_X, JUMP = 0x00, 0x01, 0x40, 0x07, 0x05
FIND_ATTRIBUTE = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: offset of the attribute of type X at or behind A, or 0
PASS, DROP = (RETURN, 0, 0, 0xFFFFFFFF), (RETURN, 0, 0, 0)
NDA_DST = 1
ATTRIBUTES_OF_NEIGHBOUR = FAMILY + 12  # behind struct ndmsg
ATTRIBUTE_HEADER = 4
# Two instructions each; the kernel takes 4096 (BPF_MAXINSNS).
MOST_ADDRESSES = 1000

Instruction = tuple[int, int, int, int]


class Monitor:
    """Tells events by a callback, in the order in which they happened; what that raises is for the loop to handle."""

    def __init__(
        self,
        watched: Watched,
        tell: Callable[[Event], object],
        loop: asyncio.AbstractEventLoop,
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        self._tell = tell
        self._loop = loop
        self._buffer = receive_buffer
        self._reader = Reader(watched, {}, name_of)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Everything that happens from now on is told. Raises OSError."""
        self._socket = open_socket(self._reader.watched, self._buffer)
        self._reader.restart(device_names())
        self._loop.add_reader(self._socket.fileno(), self._read, self._socket)

    def watch(self, watched: Watched) -> None:
        """From now on tell of these."""
        self._reader.watched = watched
        if self._socket:
            attach_filter(self._socket, only_watched(watched))

    def close(self) -> None:
        """Nothing is told any more; may be called often."""
        if self._socket:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self, sock: socket.socket) -> None:
        for _turn in range(TURN):
            if sock is not self._socket:  # the callback has closed us
                return
            try:
                datagram, (sender, _groups) = sock.recvfrom(rtnl.BUFFER)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS; after any other one, too, nobody knows what was lost
                self._overrun(sock)
                return
            if sender == 0:  # the kernel
                for event in self._reader.read(datagram):
                    self._tell(event)

    def _overrun(self, sock: socket.socket) -> None:
        """What waits is older than what was lost, and would contradict what the caller finds when it looks.

        The kernel adds nothing until the queue has been empty (NETLINK_S_CONGESTED), so this ends.
        """
        for _message in range(MOST_WAITING):
            try:
                sock.recv(1)
            except BlockingIOError:
                break
            except OSError:
                continue
        self._reader.restart(device_names())
        self._tell(Overrun())


def open_socket(watched: Watched, receive_buffer: int) -> socket.socket:
    """Bound to the groups, so what happens after this waits in it. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        attach_filter(sock, only_watched(watched))
        sock.bind((0, GROUPS))
    except BaseException:
        sock.close()
        raise
    return sock


def device_names() -> dict[int, str]:
    """Of the devices there are; when that cannot be had (no descriptor is free), each is looked up when it is met."""
    try:
        return dict(socket.if_nameindex())
    except OSError:
        return {}


def name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def only_watched(watched: Watched) -> list[Instruction]:
    """Everything but links in a bridge's words, networks of others by table main, and neighbours that are no gateway.

    Coarser than Reader, which looks again.
    """
    addresses = {address for _device, address in watched.gateways}
    return [
        (LOAD_HALF, 0, 0, 4),  # the message's type
        *_of_type(RTM_NEWLINK, RTM_DELLINK, [*_if_byte(FAMILY, socket.AF_UNSPEC, PASS), DROP]),
        *_of_type(RTM_NEWROUTE, RTM_DELROUTE, _routes()),
        *_of_type(RTM_NEWNEIGH, RTM_DELNEIGH, _neighbours(addresses)),
        PASS,
    ]


def _routes() -> list[Instruction]:
    return [
        *_unless_byte(ROUTE_TABLE, MAIN, PASS),
        *_if_byte(ROUTE_LENGTH, 0, PASS),
        *_if_byte(ROUTE_PROTOCOL, layout.PROTOCOL, PASS),
        DROP,
    ]


def _neighbours(addresses: Collection[str]) -> list[Instruction]:
    family = _unless_byte(FAMILY, socket.AF_INET, DROP)
    if len(addresses) > MOST_ADDRESSES:
        return [*family, PASS]
    numbers = sorted(int.from_bytes(socket.inet_aton(address), "big") for address in addresses)
    return [
        *family,
        (LOAD_CONSTANT_X, 0, 0, NDA_DST),
        (LOAD_CONSTANT, 0, 0, ATTRIBUTES_OF_NEIGHBOUR),
        (LOAD_WORD, 0, 0, FIND_ATTRIBUTE),
        (COPY_TO_X, 0, 0, 0),
        (LOAD_WORD_AT_X, 0, 0, ATTRIBUTE_HEADER),
        *(step for number in numbers for step in ((JUMP_IF_EQUAL, 0, 1, number), PASS)),
        DROP,
    ]


def _of_type(one: int, other: int, block: list[Instruction]) -> list[Instruction]:
    """Run the block, which ends with a verdict, on messages of two types. Types are in the machine's own order."""
    return [
        (JUMP_IF_EQUAL, 2, 0, socket.htons(one)),
        (JUMP_IF_EQUAL, 1, 0, socket.htons(other)),
        (JUMP, 0, 0, len(block)),
        *block,
    ]


def _if_byte(offset: int, value: int, verdict: Instruction) -> list[Instruction]:
    return [(LOAD_BYTE, 0, 0, offset), (JUMP_IF_EQUAL, 0, 1, value), verdict]


def _unless_byte(offset: int, value: int, verdict: Instruction) -> list[Instruction]:
    return [(LOAD_BYTE, 0, 0, offset), (JUMP_IF_EQUAL, 1, 0, value), verdict]
