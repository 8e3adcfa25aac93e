# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Packets that belong to no connection: answers to pings nobody sent, and TCP resets out of the blue.

Arguments: destination, how many of each.
"""

from __future__ import annotations

import socket
import struct
import sys

ICMP_HEADER, TCP_HEADER = struct.Struct("!BBHHH"), struct.Struct("!HHIIBBHHH")
ECHO_REPLY, RESET = 0, 0x04  # linux/icmp.h, netinet/tcp.h


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answer() -> bytes:
    sums = checksum(ICMP_HEADER.pack(ECHO_REPLY, 0, 0, 1, 1))
    return ICMP_HEADER.pack(ECHO_REPLY, 0, sums, 1, 1)


def reset(source: str, destination: str) -> bytes:
    header = (40000, 80, 1, 0, TCP_HEADER.size // 4 << 4, RESET, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, TCP_HEADER.size)
    return TCP_HEADER.pack(*header, checksum(pseudo + TCP_HEADER.pack(*header, 0, 0)), 0)


def main() -> None:
    destination, number = sys.argv[1], int(sys.argv[2])
    for protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_TCP):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
            sock.connect((destination, 0))
            source = sock.getsockname()[0]
            for _unused in range(number):
                sock.send(answer() if protocol == socket.IPPROTO_ICMP else reset(source, destination))


if __name__ == "__main__":
    main()
