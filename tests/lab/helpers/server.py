# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The Internet server: tells every client which source address it saw.

``--http PORT --log FILE``: one request per connection, access log in Apache's combined format.
``--echo PORT``: TCP lines and UDP datagrams come back as ``TEXT SOURCE``, and ICMP echoes whose payload begins with
MAGIC too, after the answer of the kernel, which does not say whom it saw.
Listens on every address, prints ``ready``, ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import struct
import sys
import time
from functools import partial

BACKLOG = 4096
IP_PKTINFO = 8  # linux/in.h; the socket module of Python 3.11 lacks it
SOL_RAW, ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h
ECHO, ECHO_REPLY = 8, 0
IP_HEADER, ICMP_HEADER = 20, struct.Struct("!BBHHH")
MAGIC = b"mwan-lab"


class HttpConnection(asyncio.Protocol):
    """Answers one request and closes. The log line is written before the answer, so a client that has its answer
    finds itself in the log."""

    def __init__(self, log: int) -> None:
        self.log = log
        self.request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.source = str(transport.get_extra_info("peername")[0])

    def data_received(self, data: bytes) -> None:
        self.request += data
        if b"\r\n\r\n" in self.request and not self.transport.is_closing():
            self.answer(self.request.split(b"\r\n", 1)[0].decode("latin-1"))

    def answer(self, request_line: str) -> None:
        path = request_line.split(" ")[1]
        status, reason = (200, "OK") if path == "/" else (404, "Not Found")
        body = f"{self.source}\n".encode()
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        line = f'{self.source} - - [{stamp}] "{request_line}" {status} {len(body)} "-" "multiwan lab"\n'
        os.write(self.log, line.encode())
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()


class EchoConnection(asyncio.Protocol):
    """Every line comes back with the source address."""

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.source = str(transport.get_extra_info("peername")[0]).encode()

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.transport.write(b"".join(line + b" " + self.source + b"\n" for line in lines))


def echo_datagrams(sock: socket.socket) -> None:
    """Answer what waits, from the address that was asked (IP_PKTINFO): a wildcard socket would let routing choose."""
    for _unused in range(256):
        try:
            data, ancillary, _unused, peer = sock.recvmsg(2048, 256)
            sock.sendmsg([data + b" " + peer[0].encode()], from_asked_address(ancillary), 0, peer)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error of an earlier answer, or no way back to this peer
            continue


def echo_pings(sock: socket.socket) -> None:
    """The same for ICMP; the kernel computes no checksum for a raw socket, and no lab device sends options of IP.

    What came in before the socket got its filter may be an answer, on a host that also asks.
    """
    for _unused in range(256):
        try:
            data, ancillary, _unused, peer = sock.recvmsg(2048, 256)
            kind, _unused, _unused, number, seq = ICMP_HEADER.unpack_from(data, IP_HEADER)
            payload = data[IP_HEADER + ICMP_HEADER.size :]
            if kind == ECHO and payload.startswith(MAGIC):
                payload += b" " + peer[0].encode()
                sums = checksum(ICMP_HEADER.pack(ECHO_REPLY, 0, 0, number, seq) + payload)
                reply = ICMP_HEADER.pack(ECHO_REPLY, 0, sums, number, seq) + payload
                sock.sendmsg([reply], from_asked_address(ancillary), 0, peer)
        except BlockingIOError:
            return
        except OSError:
            continue


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def from_asked_address(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """struct in_pktinfo is ifindex, spec_dst, addr: keep spec_dst, leave the device to routing."""
    return [
        (level, kind, b"\0" * 4 + data[4:8] + b"\0" * 4)
        for level, kind, data in ancillary
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO
    ]


def listening_udp(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("0.0.0.0", port))
    sock.setblocking(False)
    return sock


def listening_icmp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ECHO) & 0xFFFFFFFF))
    sock.setblocking(False)
    return sock


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    if options.http:
        log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        await loop.create_server(partial(HttpConnection, log), "0.0.0.0", options.http, backlog=BACKLOG)
    if options.echo:
        await loop.create_server(EchoConnection, "0.0.0.0", options.echo, backlog=BACKLOG)
        udp, icmp = listening_udp(options.echo), listening_icmp()
        loop.add_reader(udp, echo_datagrams, udp)
        loop.add_reader(icmp, echo_pings, icmp)
    owner_gone = asyncio.Event()
    loop.add_reader(sys.stdin, owner_gone.set)
    print("ready", flush=True)
    await owner_gone.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    parser.add_argument("--log")
    parser.add_argument("--echo", type=int)
    _unused, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
