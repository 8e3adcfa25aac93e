# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""ICMP and ICMPv6 echo over a raw socket.

Raw, because datagram ("ping") sockets refuse even root under the kernel's default ping_group_range="1 0" and have their
identifier rewritten. A filter in the kernel lets only answers to this probe's identifier in, so a hundred probes do not
wake each other; the cookie in the payload tells them from whatever else shares the identifier.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from .binding import Binding, Sink, attach_filter, endpoint, family_of, open_socket
from .datagram import DatagramProbe

HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
# With 24 bytes it is over the 16 under which some public resolvers answer 0.1 to 0.3 s late or not at all.
PAYLOAD = struct.Struct("!16sQ")
ECHO, ECHO_REPLY = 8, 0
ECHO_V6, ECHO_REPLY_V6 = 128, 129

# linux/bpf_common.h
LOAD_BYTE, LOAD_HALF, LOAD_BYTE_AT_X, LOAD_HALF_AT_X, X_IS_HEADER_LENGTH = 0x30, 0x28, 0x50, 0x48, 0xB1
JUMP_IF_EQUAL, RETURN = 0x15, 0x06


class IcmpProbe(DatagramProbe):
    """Echo requests to one address. An unreachable by whomever it comes is refused()."""

    def __init__(self, address: str, binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(binding, sink, loop)
        self.address = address
        self.family = family_of(address)
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.cookie = os.urandom(16)

    def open(self) -> socket.socket:
        v4 = self.family == socket.AF_INET
        protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
        sock = open_socket(self.binding, self.family, socket.SOCK_RAW, protocol)
        try:
            attach_filter(sock, only_answers_v4(self.identifier) if v4 else only_answers_v6(self.identifier))
            sock.connect(endpoint(self.address))
        except BaseException:
            sock.close()
            raise
        return sock

    def transmit(self, sock: socket.socket, seq: int) -> None:
        kind = ECHO if self.family == socket.AF_INET else ECHO_V6
        sock.send(echo_request(kind, self.identifier, seq, self.cookie))

    def answered(self, data: bytes, when: float) -> None:
        if self.family == socket.AF_INET:  # a raw IPv4 socket shows the IP header, an IPv6 one does not
            data = data[(data[0] & 0x0F) * 4 :]
        payload = data[HEADER.size : HEADER.size + PAYLOAD.size]
        if len(payload) == PAYLOAD.size:
            cookie, seq = PAYLOAD.unpack(payload)
            if cookie == self.cookie:
                self.sink.replied(seq, when)

    def quoted(self, packet: bytes) -> int | None:
        """Many routers quote the header only; the kernel matched the addresses, so its identifier will do."""
        if len(packet) < HEADER.size:
            return None
        identifier, low = (int(field) for field in HEADER.unpack_from(packet)[3:])
        if identifier != self.identifier or packet[HEADER.size : HEADER.size + 16] not in (b"", self.cookie):
            return None
        return self.latest - (self.latest - low) % 0x10000


def echo_request(kind: int, identifier: int, seq: int, cookie: bytes) -> bytes:
    payload = PAYLOAD.pack(cookie, seq)
    check = checksum(HEADER.pack(kind, 0, 0, identifier, seq % 0x10000) + payload)
    return HEADER.pack(kind, 0, check, identifier, seq % 0x10000) + payload


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes. For ICMPv6 the kernel puts its own, which covers the addresses too."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def only_answers_v4(identifier: int) -> list[tuple[int, int, int, int]]:
    return [
        (X_IS_HEADER_LENGTH, 0, 0, 0),
        (LOAD_BYTE_AT_X, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 3, ECHO_REPLY),
        (LOAD_HALF_AT_X, 0, 0, 4),
        (JUMP_IF_EQUAL, 0, 1, identifier),
        (RETURN, 0, 0, 0xFFFF),
        (RETURN, 0, 0, 0),
    ]


def only_answers_v6(identifier: int) -> list[tuple[int, int, int, int]]:
    return [
        (LOAD_BYTE, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 3, ECHO_REPLY_V6),
        (LOAD_HALF, 0, 0, 4),
        (JUMP_IF_EQUAL, 0, 1, identifier),
        (RETURN, 0, 0, 0xFFFF),
        (RETURN, 0, 0, 0),
    ]
