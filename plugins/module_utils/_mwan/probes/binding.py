# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""What all probes share: the seams to their owner, and sockets that leave through one link whatever routing says."""

from __future__ import annotations

import os
import socket
import struct
from array import array
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Protocol

# linux/socket.h, linux/in.h, linux/in6.h, linux/errqueue.h; the socket module of Python 3.9 lacks them.
SO_ATTACH_FILTER = 26
IP_RECVERR, IP_BIND_ADDRESS_NO_PORT, IPV6_RECVERR = 11, 24, 25
MSG_ERRQUEUE = 0x2000
ORIGIN_ICMP = (2, 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err; the offender's sockaddr follows


@dataclass(frozen=True)
class Binding:
    """One link as a socket sees it: device, own address (None: the kernel chooses) and firewall mark.

    Each of the three is needed: the device alone makes the kernel look for the target itself on the link, the address
    alone leaves by another one.
    """

    device: str
    source: str | None
    mark: int


class Sink(Protocol):
    """Who wants to know. `when` is in the loop's time, in seconds.

    One sequence number may get several verdicts (a duplicate, an answer after an unreachable) or none (silence). A
    late answer is told as one, up to a bound each kind names.
    """

    def replied(self, seq: int, when: float) -> None:
        """The answer came."""

    def refused(self, seq: int, when: float, why: str) -> None:
        """Somebody said that it cannot be reached, or what came was not the answer expected."""

    def failed(self, seq: int, why: str) -> None:
        """It could not be sent: no statement about the path."""


class Probe(Protocol):
    """Asks one target over one link; all methods return at once and none raises."""

    def start(self) -> None:
        """Be ready to send; what goes wrong is told by the first send()."""

    def send(self, seq: int) -> None:
        """Ask once; `seq` counts upwards. Repairs what a vanished device or address has broken."""

    def close(self) -> None:
        """Stop; the sink is not called any more."""


@dataclass(frozen=True)
class Complaint:
    """One entry of a socket's error queue."""

    code: int
    offender: str  # who sent the ICMP error; empty when the kernel itself said so
    packet: bytes  # what is quoted of the message sent

    def __str__(self) -> str:
        return f"{os.strerror(self.code)}{f' (says {self.offender})' if self.offender else ''}"


def family_of(address: str) -> socket.AddressFamily:
    """Raises ValueError when it is no address: probes never resolve names."""
    version = ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6


def endpoint(address: str, port: int = 0) -> tuple[Any, ...]:
    """The socket address; a scope (fe80::1%wan1) is looked up anew each time, since devices come and go."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]


def open_socket(
    binding: Binding, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0
) -> socket.socket:
    """A non-blocking socket bound to the link, which keeps ICMP errors for complaints(). Raises OSError."""
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        bind_to_device(sock, binding)
        keep_errors(sock)
        if binding.source:
            if family == socket.AF_INET:
                # The port is chosen at connect(), so that sockets to different targets may share one.
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(endpoint(binding.source))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_to_device(sock: socket.socket, binding: Binding) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, binding.device.encode() + b"\0")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, binding.mark)


def keep_errors(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


def complaints(sock: socket.socket) -> list[Complaint]:
    """Empty the error queue; what is not an ICMP error is left out."""
    found: list[Complaint] = []
    while True:
        try:
            packet, ancillary, _unused, _unused = sock.recvmsg(2048, 512, MSG_ERRQUEUE)
        except OSError:  # EAGAIN: empty
            return found
        for level, kind, data in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                code, origin = EXTENDED_ERROR.unpack_from(data)[:2]
                if origin in ORIGIN_ICMP:
                    found.append(Complaint(code, _offender(data[EXTENDED_ERROR.size :]), packet))


def _offender(data: bytes) -> str:
    """Address in a struct sockaddr_in or sockaddr_in6, empty for any other."""
    (family,) = struct.unpack_from("=H", data)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8])
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return ""


def attach_filter(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Classic BPF (linux/filter.h: code, jump if true, jump if false, constant); the kernel copies it."""
    code = array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))


def reason(error: OSError) -> str:
    return error.strerror or str(error)
