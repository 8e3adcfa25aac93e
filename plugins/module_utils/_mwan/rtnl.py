# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One netlink socket: a request and its answers (netlink(7)).

Carries what pyroute2 encodes and decodes. Its own sockets run an event loop once per message, and a router with 250
links has 2000 messages to read and 1250 to write: this takes a fifth of the time.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

# linux/netlink.h
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ERROR = struct.Struct("=i")
# The kernel fills no more than 32 KiB of a dump at a time (netlink_dump).
BUFFER = 65536
DUMP_TRIES = 10


class InterruptedDumpError(Exception):
    """The objects changed while they were listed, so the list may lack some of them."""


class Channel:
    """Takes messages with room for the header at their beginning; errors of the kernel are raised as OSError."""

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        if family == socket.NETLINK_ROUTE:
            # the kernel filters dumps by what the request says, and refuses what it does not know
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, message: bytes) -> None:
        """Have the kernel do one thing, and wait for its answer."""
        self.ask(kind, message, flags)

    def ask(self, kind: int, message: bytes, flags: int = 0) -> list[bytes]:
        """The same, with what the kernel says beside the acknowledgement."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, message)
        return list(self._answers())

    def requests(self, kind: int, messages: Sequence[bytes], passed_over: tuple[int, ...]) -> None:
        """Have the kernel do several things in one go; all are tried.

        Raises the first error that is none of `passed_over`. Only errors and the last one are acknowledged, so there
        must not be more messages than the socket has room for errors: some 270.
        """
        first = self._sequence + 1
        flags = [NLM_F_REQUEST] * (len(messages) - 1) + [NLM_F_REQUEST | NLM_F_ACK]
        self._socket.send(b"".join(map(self._numbered, [kind] * len(messages), flags, messages)))
        errors = [error for error in self._errors(first) if error.errno not in passed_over]
        if errors:
            raise errors[0]

    def _errors(self, first: int) -> Iterator[OSError]:
        """What went wrong with the requests from number `first` to the last."""
        while True:
            for _kind, _flags, sequence, message in split(self._socket.recv(BUFFER)):
                try:
                    _check(message)
                except OSError as exc:
                    if sequence >= first:
                        yield exc
                if sequence == self._sequence:
                    return

    def dump(self, kind: int, message: bytes, wanted: Callable[[bytes], bool] | None = None) -> list[bytes]:
        """All objects that `message` selects and `wanted` takes, each a whole netlink message."""
        for _unused in range(DUMP_TRIES):
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, message)
            try:
                return list(filter(wanted, self._answers()))
            except InterruptedDumpError:
                continue
        raise OSError(0, f"interrupted by changes {DUMP_TRIES} times")

    def _send(self, kind: int, flags: int, message: bytes) -> None:
        self._socket.send(self._numbered(kind, flags, message))

    def _numbered(self, kind: int, flags: int, message: bytes) -> bytes:
        self._sequence += 1
        return HEADER.pack(len(message), kind, flags, self._sequence, 0) + message[HEADER.size :]

    def _answers(self) -> Iterator[bytes]:
        """Everything up to the end of the list or the acknowledgement; what belongs to older requests is skipped."""
        interrupted = False
        while True:
            for kind, flags, sequence, message in split(self._socket.recv(BUFFER)):
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind not in (NLMSG_ERROR, NLMSG_DONE):
                    yield message
                    continue
                _check(message)
                if interrupted:
                    raise InterruptedDumpError
                return


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset < len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset : offset + length]
        offset += length + 3 & ~3


def _check(message: bytes) -> None:
    """An acknowledgement is error 0; the end of a list carries an error, too."""
    code = ERROR.unpack_from(message, HEADER.size)[0] if len(message) >= HEADER.size + ERROR.size else 0
    if code:
        raise OSError(-code, os.strerror(-code))
