# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A far end that answers as probes expect, or not: HTTP on 80 (and HTTPS on 443 with --certificate), DNS on UDP 53.

``/`` 200 with the client's address, ``/204`` no content, ``/login`` a redirect, ``/chunked`` a body in chunks,
``/slow`` 200 after 0.4 s, ``/never`` no answer, ``/noise`` no HTTP. DNS: ``broken.`` SERVFAIL, ``none.`` no such name,
``wrong.`` the answer to another question, ``slow.`` after 0.4 s, else an answer. Every source address and request is
written to --log. Prints ``ready``, ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
import struct
import sys
from functools import partial

IP_PKTINFO = 8  # linux/in.h; the socket module of Python 3.11 lacks it
CODES = {b"broken": 2, b"none": 3}


def log(descriptor: int, source: str, what: str) -> None:
    os.write(descriptor, f"{source} {what}\n".encode())


async def answer_http(descriptor: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        source = writer.get_extra_info("peername")[0]
        path = head.split(b" ")[1].decode()
        log(descriptor, source, f"http {path} {host_header(head)}")
        writer.write(await http_answer(path, source))
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # a TCP probe hangs up, the test is over
        pass
    finally:
        writer.close()


def host_header(head: bytes) -> str:
    return next(line[6:].decode() for line in head.split(b"\r\n") if line.startswith(b"Host: "))


async def http_answer(path: str, source: str) -> bytes:
    if path in ("/never", "/slow"):
        await asyncio.sleep(0.4 if path == "/slow" else 30.0)
    special = {
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/login": b"HTTP/1.1 302 Found\r\nLocation: http://portal.lan/login\r\nContent-Length: 0\r\n\r\n",
        "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsucc\r\n3\r\ness\r\n0\r\n\r\n",
        "/noise": b"SSH-2.0-OpenSSH\r\n",
    }
    body = f"hello {source}\n".encode()
    return special.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def dns_readable(descriptor: int, sock: socket.socket) -> None:
    data, ancillary, _unused, peer = sock.recvmsg(2048, 256)
    name = data[13 : 13 + data[12]]
    log(descriptor, peer[0], f"dns {name.decode()}")
    reply = dns_answer(data, name)
    # struct in_pktinfo is ifindex, spec_dst, addr: answer from the address that was asked.
    asked = [(level, kind, b"\0" * 4 + info[4:8] + b"\0" * 4) for level, kind, info in ancillary]
    delay = 0.4 if name == b"slow" else 0.0
    asyncio.get_running_loop().call_later(delay, sock.sendmsg, [reply], asked, 0, peer)


def dns_answer(data: bytes, name: bytes) -> bytes:
    question = data[12:].replace(b"wrong", b"right").upper()
    code = CODES.get(name, 0)
    address = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, b"\x07\x07\x07\x07") if code == 0 else b""
    return data[:2] + struct.pack("!5H", 0x8180 | code, 1, int(code == 0), 0, 0) + question + address


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    descriptor = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    serve_http = partial(answer_http, descriptor)
    await asyncio.start_server(serve_http, "0.0.0.0", 80, backlog=256)
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate)
        await asyncio.start_server(serve_http, "0.0.0.0", 443, ssl=context)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.bind(("0.0.0.0", 53))
    sock.setblocking(False)
    loop.add_reader(sock, dns_readable, descriptor, sock)
    owner_gone = asyncio.Event()
    loop.add_reader(sys.stdin, owner_gone.set)
    print("ready", flush=True)
    await owner_gone.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--certificate")
    asyncio.run(serve(parser.parse_args()))
