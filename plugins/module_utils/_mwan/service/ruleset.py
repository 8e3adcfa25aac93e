# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notices when somebody touches our firewall rules: "flush ruleset" is how most configurations begin."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from .. import rtnl
from ..errors import KernelError
from ..firewall.iptables import sizes
from ..firewall.nftables import TABLE
from ..nfnetlink import ATTRIBUTE, FIRST, NFTABLES, open_socket

# linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES as a bit
GROUP = 1 << (7 - 1)
# linux/netfilter/nf_tables.h: in messages about tables, chains, rules, sets, elements and objects, the table's name
TABLE_NAME = 1
NFT_MSG_NEWGEN = 15
# elements of sets: clients of sticky policies, and what others put into external sets. A set that is part of a rule
# changes only with it.
NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM = 12, 14
SILENT = (NFT_MSG_NEWGEN, NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM)
OURS = TABLE.split()[1].encode() + b"\0"
LOOK = 1.0  # seconds between looks at legacy tables
TURN = 100  # datagrams read before the loop may do something else


class RulesetMonitor:
    """Calls `tell` when something of our table was added, changed or deleted, by us or by others.

    Messages of other tables are read and forgotten. Where they were too many to be kept, ours may have been among them.
    """

    def __init__(self, tell: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self._tell, self._loop = tell, loop
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """A kernel without nftables has nothing to tell."""
        try:
            sock = open_socket(GROUP)
        except OSError:
            return
        sock.setblocking(False)
        self._socket = sock
        self._loop.add_reader(sock.fileno(), self._read, sock)

    def close(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self, sock: socket.socket) -> None:
        touched = False
        for _turn in range(TURN):
            try:
                datagram, (sender, _groups) = sock.recvfrom(rtnl.BUFFER)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS
                touched = True
                continue
            touched = touched or (sender == 0 and any(of_ours(datagram)))
        if touched:
            self._tell()


class LegacyMonitor:
    """Calls `tell` when the legacy tables that hold our rules have another size than when they were last looked at."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sizes: Callable[[], object] = sizes) -> None:
        self._loop, self._sizes = loop, sizes
        self._tell: Callable[[], object] = self.look
        self._before: object = None
        self._next: asyncio.TimerHandle | None = None

    def start(self, tell: Callable[[], object]) -> None:
        """Nothing is told before watch() says so."""
        self._tell = tell

    def watch(self, wanted: bool) -> None:
        """Look from now on, or no longer."""
        if wanted and not self._next:
            self._again()
        elif self._next and not wanted:
            self._next.cancel()
            self._next, self._before = None, None

    def look(self) -> bool:
        """Take the tables as they are for good; returns whether they had changed."""
        if self._next:
            with suppress(KernelError):
                before, self._before = self._before, self._sizes()
                return before not in (None, self._before)
        return False

    def _again(self) -> None:
        self._next = self._loop.call_later(LOOK, self._again)
        if self.look():
            self._tell()


def of_ours(datagram: bytes) -> Iterator[bool]:
    """Of each message, whether it is about our table."""
    for kind, _flags, _sequence, message in rtnl.split(datagram):
        if kind >> 8 == NFTABLES and kind & 0xFF not in SILENT:
            yield table_name(message) == OURS


def table_name(message: bytes) -> bytes:
    """The first attribute of its kind; empty where there is none."""
    offset = FIRST
    while offset + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, offset)
        if length < ATTRIBUTE.size:
            break
        if kind == TABLE_NAME:
            return message[offset + ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return b""
