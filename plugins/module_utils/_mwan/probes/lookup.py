# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""Addresses of a name as a resolver of the link says, asked over the link: what a name means may depend on the link."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

from .binding import Binding, endpoint, family_of, open_socket
from .dns import HEADER, INTERNET, RCODE, RECORDS, is_answer, query, question

TRIES, SECONDS = 3, 1.0  # and of each
RECORD = struct.Struct("!HHIH")  # type, class, time to live, length of the data
POINTER = 0xC0  # RFC 1035 4.1.4: ends a name


async def lookup(
    name: str,
    resolver: str,
    binding: Binding,
    loop: asyncio.AbstractEventLoop,
    family: socket.AddressFamily = socket.AF_INET,
) -> list[str]:
    """Not for the way of a probe: ask now and then, and keep the last answer. Empty when the name has none.

    Raises OSError, after three seconds of silence too, and ValueError for what is no name.
    """
    asked = question(name, "A" if family == socket.AF_INET else "AAAA")
    with open_socket(binding, family_of(resolver), socket.SOCK_DGRAM) as sock:
        sock.connect(endpoint(resolver, 53))
        for _unused in range(TRIES):
            message = query(int.from_bytes(os.urandom(2), "big"), asked)
            sock.send(message)
            try:
                return addresses(await asyncio.wait_for(_answer(sock, loop, message), SECONDS), len(asked), family)
            except asyncio.TimeoutError:
                continue
    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


async def _answer(sock: socket.socket, loop: asyncio.AbstractEventLoop, message: bytes) -> bytes:
    while True:
        data = await loop.sock_recv(sock, 2048)
        if data[:2] == message[:2] and is_answer(data, message[HEADER.size :]):
            return data


def addresses(data: bytes, question_size: int, family: socket.AddressFamily) -> list[str]:
    """The address records of an answer; what is cut off or malformed ends the list."""
    _unused, flags, _unused, number, _unused, _unused = HEADER.unpack_from(data)
    kind, size = (RECORDS["A"], 4) if family == socket.AF_INET else (RECORDS["AAAA"], 16)
    found: list[str] = []
    at = HEADER.size + question_size
    try:
        for _unused in range(number if not flags & RCODE else 0):
            at = _after_name(data, at)
            record, space, _unused, length = RECORD.unpack_from(data, at)
            at += RECORD.size + length
            if (record, space, length) == (kind, INTERNET, size):
                found.append(socket.inet_ntop(family, data[at - length : at]))
    except (IndexError, ValueError, struct.error):
        return found
    return found


def _after_name(data: bytes, at: int) -> int:
    """Raises IndexError when it does not end."""
    while data[at]:
        if data[at] >= POINTER:
            return at + 2
        at += 1 + data[at]
    return at + 1
