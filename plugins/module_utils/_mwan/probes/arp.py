# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""ARP requests for the gateway, over a packet socket: whether the next hop itself is there, without any routing."""

from __future__ import annotations

import asyncio
import socket
import struct

from .binding import Binding, Sink, attach_filter, bind_to_device, family_of
from .datagram import DatagramProbe
from .icmp import JUMP_IF_EQUAL, LOAD_HALF, RETURN

ETH_P_ARP = 0x0806
PACKET = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826, Ethernet and IPv4
ETHERNET, IPV4, REQUEST, REPLY = 1, 0x0800, 1, 2
BROADCAST = b"\xff" * 6
LOAD_WORD = 0x20  # linux/bpf_common.h
UNKNOWN = "0.0.0.0"  # RFC 5227: a sender that has no address yet


class ArpProbe(DatagramProbe):
    """Requests to everybody on the segment; an answer carries no number, so it belongs to the latest request.

    Answers to the kernel's own requests are taken as well: they prove the same. Raises ValueError for a gateway that
    is no IPv4 address, as ARP knows nothing else.
    """

    def __init__(self, gateway: str, binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(binding, sink, loop)
        if family_of(gateway) != socket.AF_INET:
            raise ValueError(f"gateway {gateway}: ARP is for IPv4")
        self.gateway = socket.inet_aton(gateway)
        self.own = socket.inet_aton(binding.source or UNKNOWN)
        self._hardware = b""
        self._waiting = False

    def open(self) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # protocol 0: nothing arrives before bind()
        try:
            sock.setblocking(False)
            attach_filter(sock, only_answers_of(self.gateway))
            bind_to_device(sock, self.binding)
            sock.bind((self.binding.device, ETH_P_ARP))
            self._hardware = hardware_address(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def transmit(self, sock: socket.socket, seq: int) -> None:  # noqa: ARG002  (a request has no room for it)
        request = PACKET.pack(ETHERNET, IPV4, 6, 4, REQUEST, self._hardware, self.own, bytes(6), self.gateway)
        sock.sendto(request, (self.binding.device, ETH_P_ARP, 0, ETHERNET, BROADCAST))
        self._waiting = True

    def answered(self, data: bytes, when: float) -> None:
        if not self._waiting or len(data) < PACKET.size:
            return
        target = PACKET.unpack_from(data)[7]
        if target == self._hardware:
            self._waiting = False
            self.sink.replied(self.latest, when)

    def quoted(self, packet: bytes) -> int | None:  # noqa: ARG002
        return None  # nobody answers ARP with ICMP


def hardware_address(sock: socket.socket) -> bytes:
    """Of the device a packet socket is bound to. Raises OSError when it has none, as a point-to-point line."""
    _unused, _unused, _unused, kind, address = sock.getsockname()
    if kind != ETHERNET or len(address) != 6:
        raise OSError("the device has no Ethernet address to ask with")
    return bytes(address)


def only_answers_of(gateway: bytes) -> list[tuple[int, int, int, int]]:
    """On a busy segment most of ARP is other hosts' requests."""
    return [
        (LOAD_HALF, 0, 0, 6),
        (JUMP_IF_EQUAL, 0, 3, REPLY),
        (LOAD_WORD, 0, 0, 14),
        (JUMP_IF_EQUAL, 0, 1, int.from_bytes(gateway, "big")),
        (RETURN, 0, 0, 0xFFFF),
        (RETURN, 0, 0, 0),
    ]
