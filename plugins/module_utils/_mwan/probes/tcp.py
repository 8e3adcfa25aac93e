# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""TCP connections, a new one for each question."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from abc import ABC, abstractmethod
from functools import partial

from .attempts import PATIENCE, Attempts
from .binding import Binding, Sink, complaints, endpoint, family_of, open_socket, reason

UNDER_WAY = {0, errno.EINPROGRESS}
AT_ONCE = struct.pack("ii", 1, 0)  # struct linger


class ConnectingProbe(ABC):
    """Connects and says how that went. The kernel repeats a lost SYN after 1, 3 and 7 seconds, so a late answer may be
    one to a repetition; `patience` seconds after send() none is awaited any more."""

    def __init__(
        self,
        address: str,
        port: int,
        binding: Binding,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        patience: float = PATIENCE,
    ) -> None:
        self.address = address
        self.port = port
        self.family = family_of(address)
        self.binding = binding
        self.sink = sink
        self.loop = loop
        self.attempts = Attempts(loop, patience)

    @abstractmethod
    def connected(self, seq: int, sock: socket.socket) -> None:
        """The socket is the callee's to close."""

    @abstractmethod
    def reset(self, seq: int, when: float) -> None:
        """The target is there and does not want to."""

    def start(self) -> None:  # noqa: B027  (for every kind)
        """Nothing to prepare."""

    def send(self, seq: int) -> None:
        try:
            sock = self._connecting()
        except OSError as error:
            self.sink.failed(seq, reason(error))
        else:
            self.loop.add_writer(sock, self._decided, seq, sock)
            self.attempts.add(seq, partial(self._give_up, sock))

    def close(self) -> None:
        self.attempts.stop_all()

    def _connecting(self) -> socket.socket:
        sock = open_socket(self.binding, self.family, socket.SOCK_STREAM)
        try:
            code = sock.connect_ex(endpoint(self.address, self.port))
            if code not in UNDER_WAY:
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        return sock

    def _give_up(self, sock: socket.socket) -> None:
        self.loop.remove_writer(sock)
        sock.close()

    def _decided(self, seq: int, sock: socket.socket) -> None:
        when = self.loop.time()
        self.loop.remove_writer(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            self.connected(seq, sock)
            return
        said = [str(complaint) for complaint in complaints(sock)] or [os.strerror(code)]
        self.attempts.ended(seq)
        sock.close()
        if code in (errno.ECONNREFUSED, errno.ECONNRESET):
            self.reset(seq, when)
        elif code != errno.ETIMEDOUT:  # the kernel's patience ended before ours: silence
            self.sink.refused(seq, when, said[0])


class TcpProbe(ConnectingProbe):
    """Connects and hangs up. A connection and a refusal by the target are both a reply: it was reached."""

    def connected(self, seq: int, sock: socket.socket) -> None:
        when = self.loop.time()
        self.attempts.ended(seq)
        # With a reset, so that neither this machine nor connection tracking keeps a TIME_WAIT for each question.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        sock.close()
        self.sink.replied(seq, when)

    def reset(self, seq: int, when: float) -> None:
        self.sink.replied(seq, when)
