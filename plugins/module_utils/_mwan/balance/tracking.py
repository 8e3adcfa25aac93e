# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's connection tracking, as it happens and as a whole, over ctnetlink.

Checked on Linux 6.18: a new connection is told of when its first packet has passed all hooks of postrouting, with the
mark that it has by then (nf_conntrack_confirm, which is the last of them, delivers the cached events). The id that it
tells is a hash of 32 bits (nf_ct_get_id): of 150,000 connections, two to four had another's.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from ..nfnetlink import (
    CT_DELETE,
    CT_GET,
    CT_NEW,
    CTA_ID,
    CTA_MARK,
    CTA_PROTOINFO,
    CTA_PROTOINFO_TCP,
    CTA_PROTOINFO_TCP_STATE,
    CTA_TUPLE_ORIG,
    NUMBER,
    attributes,
    message,
    open_socket,
    parsed,
)
from ..rtnl import BUFFER, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, split
from .census import ENDED, LISTED, NEW, UPDATE, Tracked
from .flows import is_tcp, of_tuple

# linux/netfilter/nfnetlink_compat.h: new, update and destroy
GROUPS = 1 << 0 | 1 << 1 | 1 << 2
NLM_F_CREATE = 0x400
ROOM = 8 << 20
# linux/netfilter/nf_conntrack_tcp.h: SYN_SENT, SYN_RECV, ESTABLISHED, and SYN_SENT of both sides
OPEN = frozenset((1, 2, 3, 9))


class Events:
    """What happens to connections, from the construction on. Raises OSError."""

    def __init__(self) -> None:
        self._socket = open_socket(GROUPS, ROOM)
        self._socket.setblocking(False)
        self.overruns = 0
        self.whole = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, most: int) -> Iterator[Tracked]:
        """What waits, of at most so many datagrams; `overruns` grows when the kernel had to drop some.

        After that nothing is `whole` until all has been read: the kernel adds nothing to a buffer that was full before
        it has been empty (NETLINK_S_CONGESTED).
        """
        for _unused in range(most):
            try:
                data = self._socket.recv(BUFFER)
            except BlockingIOError:
                self.whole = True
                return
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                self.overruns, self.whole = self.overruns + 1, False
                continue
            yield from decoded(data)


class Listing:
    """The whole table, asked for at the construction and read piece by piece. Raises OSError."""

    def __init__(self, blocking: bool = False) -> None:
        self._socket = open_socket()
        self._socket.setblocking(blocking)
        self._socket.send(message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, family=socket.AF_INET))
        self.done = self.torn = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> Iterator[Tracked]:
        """The next piece, 0.3 ms for the 100 or so connections in it. Then it is `done`, or it is not; `torn`, when the
        table was moved meanwhile and some may be missing."""
        try:
            data = self._socket.recv(BUFFER)
        except BlockingIOError:
            return
        for kind, flags, _sequence, whole in split(data):
            self.torn |= bool(flags & NLM_F_DUMP_INTR)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                self.done, self.torn = True, self.torn or kind == NLMSG_ERROR
            else:
                yield _tracked(LISTED, whole)


def open_connections(mask: int) -> dict[int, int]:
    """The link's mark of each open connection that has one, by its `Tracked.ident`; raises OSError.

    Takes 0.4 s of a processor for 100,000 of them.
    """
    listing, found = Listing(blocking=True), {}
    try:
        while not listing.done:
            for tracked in listing.read():
                if tracked.mark and tracked.mark & mask and tracked.open:
                    found[tracked.ident] = tracked.mark & mask
    finally:
        listing.close()
    return found


def decoded(data: bytes) -> Iterator[Tracked]:
    for kind, flags, _sequence, whole in split(data):
        if kind == CT_NEW:
            yield _tracked(NEW if flags & NLM_F_CREATE else UPDATE, whole)
        elif kind == CT_DELETE:
            yield _tracked(ENDED, whole)


def _tracked(what: str, whole: bytes) -> Tracked:
    found = attributes(whole)
    ident = int.from_bytes(found[CTA_ID] + found[CTA_TUPLE_ORIG], "big")
    if what == ENDED:
        return Tracked(what, ident, None, False)
    mark = NUMBER.unpack(found[CTA_MARK])[0] if CTA_MARK in found else None
    flow = of_tuple(found[CTA_TUPLE_ORIG]) if what == NEW else b""
    return Tracked(what, ident, mark, _open(found), flow)


def _open(found: dict[int, bytes]) -> bool | None:
    """None where nothing is said of it: of TCP its state is told only when that has changed."""
    if CTA_PROTOINFO in found:
        tcp = parsed(found[CTA_PROTOINFO]).get(CTA_PROTOINFO_TCP)
        state = parsed(tcp).get(CTA_PROTOINFO_TCP_STATE) if tcp else None
        return state is None or state[0] in OPEN
    return None if is_tcp(found[CTA_TUPLE_ORIG]) else True
