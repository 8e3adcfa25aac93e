# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of tracked connections, over ctnetlink: those of one mark, or a part of them, are forgotten.

Only IPv4, as nothing else is ever pinned.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Sequence

from . import rtnl
from .kernel import OTHERS, UNANSWERED, Marked
from .nfnetlink import (
    CT_DELETE,
    CT_GET,
    CT_NEW,
    CTA_FILTER,
    CTA_ID,
    CTA_IP_V4_DST,
    CTA_MARK,
    CTA_MARK_MASK,
    CTA_PROTO_NUM,
    CTA_STATUS,
    CTA_STATUS_MASK,
    CTA_TUPLE_IP,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
    CTA_ZONE,
    NETLINK_NETFILTER,
    NUMBER,
    attribute,
    attributes,
    message,
    nest,
    parsed,
)

# The version tells a kernel that has it (4.20) to look at the family of a request to delete many.
FAMILY, VERSION = socket.AF_INET, 1
# CTA_FILTER_ORIG_FLAGS is 1 and CTA_FILTER_REPLY_FLAGS 2, as the tuples they speak of; which parts of a tuple count
# (net/netfilter/nf_internals.h, CTA_FILTER_F_CTA_...)
IP_DST, PROTO_NUM = 1 << 1, 1 << 3
# linux/netfilter/nf_conntrack_common.h
SEEN_REPLY = 1 << 1
TCP = socket.IPPROTO_TCP
# A filter takes one protocol and no negation. These are what a LAN sends out beside TCP, most frequent first: UDP,
# ICMP, ESP, GRE, AH, IPv6 in IP, IP in IP, L2TP, SCTP, UDP-Lite, DCCP.
OTHER_PROTOCOLS = 17, 1, 50, 47, 51, 41, 4, 115, 132, 136, 33
# What the kernel answers to a filter it cannot delete by: since 6.12 it can, from 5.8 on it says so, and before it
# misses the rest of what it takes for the one connection to delete.
UNFILTERED = errno.EOPNOTSUPP, errno.EINVAL
# A connection may end by itself meanwhile; one that a flowtable carries is left to it, as some kernels do.
GONE = errno.ENOENT, errno.EBUSY
BATCH = 200  # deletions in one piece; their errors, if all fail, fit the socket's buffer


class Conntrack:
    """Errors of the kernel are raised as OSError."""

    def __init__(self) -> None:
        self._channel = rtnl.Channel(NETLINK_NETFILTER)

    def close(self) -> None:
        self._channel.close()

    def forget(self, which: Marked) -> None:
        """Delete these connections: in the kernel where it can, else one by one.

        A request takes the kernel 0.2 ms, 6 ms where it tracks 100,000 connections, and 1 us for each it deletes. One
        by one, each that has the mark takes 6 us; so go those some of which are spared, as a filter of the kernel says
        what connections have, and not what they have not.
        """
        if which.spared:
            self.forget_one_by_one(which)
            return
        try:
            for selection in selections(which):
                self._channel.request(CT_DELETE, 0, _message(selection))
        except OSError as exc:
            if which.whole or exc.errno not in UNFILTERED:
                raise
            self.forget_one_by_one(which)

    def forget_one_by_one(self, which: Marked) -> None:
        listed = self._channel.dump(CT_GET, _message(_marked(which)))
        entries = [found for found in map(attributes, listed) if selected(which, found)]
        for start in range(0, len(entries), BATCH):
            messages = [_message(_identity(entry)) for entry in entries[start : start + BATCH]]
            self._channel.requests(CT_DELETE, messages, GONE)

    def marked(self, marks: Collection[int], mask: int) -> list[dict[int, bytes]]:
        """The connections that have one of these marks."""
        listed = map(attributes, self._channel.dump(CT_GET, _message(b"")))
        return [found for found in listed if NUMBER.unpack(found.get(CTA_MARK, bytes(4)))[0] & mask in marks]

    def unmark(self, entries: Sequence[dict[int, bytes]], mask: int) -> None:
        """They go on, with the bits of the mask cleared (ctnetlink_change_mark)."""
        cleared = attribute(CTA_MARK, NUMBER.pack(0)) + attribute(CTA_MARK_MASK, NUMBER.pack(mask))
        for start in range(0, len(entries), BATCH):
            messages = [_message(_tuple(entry) + cleared) for entry in entries[start : start + BATCH]]
            self._channel.requests(CT_NEW, messages, GONE)


def _message(content: bytes) -> bytes:
    return message(0, 0, content, FAMILY, VERSION)


def selections(which: Marked) -> list[bytes]:
    """The attributes of requests that together select `which`, each of them a part."""
    mark = _marked(which)
    if which.address:
        address = socket.inet_aton(which.address)
        return [mark + _filter(tuple_, IP_DST, _address(address)) for tuple_ in (CTA_TUPLE_REPLY, CTA_TUPLE_ORIG)]
    if which.part == OTHERS:
        return [mark + _of_protocol(number) for number in OTHER_PROTOCOLS]
    if which.part == UNANSWERED:
        unanswered = attribute(CTA_STATUS, NUMBER.pack(0)) + attribute(CTA_STATUS_MASK, NUMBER.pack(SEEN_REPLY))
        # with the filter, so that no kernel which cannot tell the status deletes more
        return [mark + unanswered + _of_protocol(TCP)]
    return [mark]


def _marked(which: Marked) -> bytes:
    return attribute(CTA_MARK, NUMBER.pack(which.mark)) + attribute(CTA_MARK_MASK, NUMBER.pack(which.mask))


def _of_protocol(number: int) -> bytes:
    return _filter(CTA_TUPLE_ORIG, PROTO_NUM, nest(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes([number]))))


def _address(address: bytes) -> bytes:
    return nest(CTA_TUPLE_IP, attribute(CTA_IP_V4_DST, address))


def _filter(tuple_: int, parts: int, content: bytes) -> bytes:
    """Only connections with this in their tuple; flags are in the order of the host."""
    return nest(tuple_, content) + nest(CTA_FILTER, attribute(tuple_, struct.pack("=I", parts)))


def selected(which: Marked, found: dict[int, bytes]) -> bool:
    """Whether a listed connection is among `which`: what the filters say, for kernels that have none."""
    if NUMBER.unpack(found.get(CTA_MARK, bytes(4)))[0] & which.mask != which.mark:
        return False
    if which.address:
        address = socket.inet_aton(which.address)
        return address in (_destination(found[CTA_TUPLE_ORIG]), _destination(found[CTA_TUPLE_REPLY]))
    if which.part == OTHERS:
        spared = [socket.inet_aton(address) for address in which.spared]
        return _protocol(found) != TCP and _destination(found[CTA_TUPLE_ORIG]) not in spared
    if which.part == UNANSWERED:
        return _protocol(found) == TCP and not NUMBER.unpack(found[CTA_STATUS])[0] & SEEN_REPLY
    return True


def _destination(tuple_: bytes) -> bytes | None:
    return parsed(parsed(tuple_)[CTA_TUPLE_IP]).get(CTA_IP_V4_DST)


def _protocol(found: dict[int, bytes]) -> int:
    return parsed(parsed(found[CTA_TUPLE_ORIG])[CTA_TUPLE_PROTO])[CTA_PROTO_NUM][0]


def _identity(found: dict[int, bytes]) -> bytes:
    """What names one connection in a request; the id keeps a successor of the same addresses and ports."""
    return _tuple(found) + attribute(CTA_ID, found[CTA_ID])


def _tuple(found: dict[int, bytes]) -> bytes:
    zone = attribute(CTA_ZONE, found[CTA_ZONE]) if CTA_ZONE in found else b""
    return nest(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG]) + zone
