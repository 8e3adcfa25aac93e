# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages of netfilter's netlink family: their header and their attributes, whichever subsystem speaks.

Names and numbers are those of linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h and linux/netlink.h.
"""

from __future__ import annotations

import socket
import struct

from .rtnl import HEADER

NETLINK_NETFILTER = 12
# the upper octet of a message's type
CONNTRACK, QUEUE, NFTABLES = 1, 3, 10
CT_NEW, CT_GET, CT_DELETE = (CONNTRACK << 8 | number for number in range(3))
GENERAL = struct.Struct("!BBH")  # family, version, resource
FIRST = HEADER.size + GENERAL.size
ATTRIBUTE = struct.Struct("=HH")  # length, type
NUMBER = struct.Struct("!I")
NLA_F_NESTED = 0x8000
# linux/socket.h: the buffer may be larger than the system allows for others; takes CAP_NET_ADMIN
SO_RCVBUFFORCE = 33

# of a connection
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_MARK, CTA_ID = 1, 2, 3, 4, 8, 12
CTA_ZONE, CTA_MARK_MASK, CTA_FILTER, CTA_STATUS_MASK = 18, 21, 25, 26
# of a tuple
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_ID = 1, 2, 3, 4
# of the state of TCP
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1


def open_socket(groups: int = 0, buffer: int = 0) -> socket.socket:
    """One that hears of these multicast groups, each a bit; `buffer` octets of room. Raises OSError."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def message(
    kind: int, flags: int, content: bytes = b"", family: int = 0, version: int = 0, resource: int = 0, sequence: int = 0
) -> bytes:
    header = HEADER.pack(FIRST + len(content), kind, flags, sequence, 0)
    return header + GENERAL.pack(family, version, resource) + content


def attribute(kind: int, content: bytes) -> bytes:
    length = ATTRIBUTE.size + len(content)
    return ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def nest(kind: int, content: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, content)


def attributes(whole: bytes) -> dict[int, bytes]:
    """Those of a whole message."""
    return parsed(whole[FIRST:])


def parsed(data: bytes) -> dict[int, bytes]:
    """Takes 0.3 us for each attribute, which counts where every connection has several messages."""
    found, offset, end, unpack = {}, 0, len(data), ATTRIBUTE.unpack_from
    while offset < end:
        length, kind = unpack(data, offset)
        found[kind & ~NLA_F_NESTED] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found
