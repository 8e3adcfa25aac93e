# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name of a flow, the same whether read from its packet or from the kernel's record of the connection. Pure.

The addresses, the protocol's number, and the ports, or the identifier of an ICMP message; IPv4 only.
"""

from __future__ import annotations

import socket

from ..nfnetlink import (
    CTA_IP_V4_DST,
    CTA_IP_V4_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_ICMP_ID,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_TUPLE_IP,
    CTA_TUPLE_PROTO,
    parsed,
)

# RFC 791
PROTOCOL, ADDRESSES = slice(9, 10), slice(12, 20)
ICMP, TCP = bytes([socket.IPPROTO_ICMP]), bytes([socket.IPPROTO_TCP])
# TCP, UDP, DCCP, SCTP, UDP-Lite: begin with the ports
WITH_PORTS = frozenset(bytes([number]) for number in (6, 17, 33, 132, 136))
# octets of a packet that tell its flow: the longest header, and the ports
ENOUGH = 64


def of_packet(packet: bytes) -> bytes:
    """Empty for what is no IPv4 packet."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return b""
    protocol, data = packet[PROTOCOL], (packet[0] & 15) * 4
    rest = b""
    if protocol in WITH_PORTS:
        rest = packet[data : data + 4]
    elif protocol == ICMP:
        rest = packet[data + 4 : data + 6]
    return packet[ADDRESSES] + protocol + rest


def of_tuple(found: bytes) -> bytes:
    """Of the tuple that a connection began with, CTA_TUPLE_ORIG."""
    parts = parsed(found)
    addresses, protocol = parsed(parts[CTA_TUPLE_IP]), parsed(parts[CTA_TUPLE_PROTO])
    source, destination = addresses.get(CTA_IP_V4_SRC), addresses.get(CTA_IP_V4_DST)
    if source is None or destination is None:
        return b""
    ports = protocol.get(CTA_PROTO_SRC_PORT, b"") + protocol.get(CTA_PROTO_DST_PORT, b"")
    number = protocol[CTA_PROTO_NUM]
    rest = ports if number in WITH_PORTS else protocol.get(CTA_PROTO_ICMP_ID, b"") if number == ICMP else b""
    return source + destination + number + rest


def is_tcp(found: bytes) -> bool:
    return parsed(parsed(found)[CTA_TUPLE_PROTO])[CTA_PROTO_NUM] == TCP
