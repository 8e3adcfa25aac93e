# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""Probes that keep one socket and send datagrams: ICMP echo, DNS, ARP."""

from __future__ import annotations

import asyncio
import errno
import socket
from abc import ABC, abstractmethod

from .binding import Binding, Sink, complaints, reason

# The machine is busy or its firewall says no: another socket would fare no better, and would miss late answers.
NOT_THE_SOCKET = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EPERM}
MOST_AT_ONCE = 64  # datagrams read before other sockets have their turn


class DatagramProbe(ABC):
    """The socket's life; the kinds say what is in a message.

    There is no bound on how late an answer may come. That the next hop does not answer ARP is silence here: the kernel
    sends its unreachable by the loopback device, where a socket bound to another one does not hear it.
    """

    def __init__(self, binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        self.binding = binding
        self.sink = sink
        self.loop = loop
        self.latest = 0
        self._socket: socket.socket | None = None

    @abstractmethod
    def open(self) -> socket.socket:
        """A socket ready for transmit(). Raises OSError."""

    @abstractmethod
    def transmit(self, sock: socket.socket, seq: int) -> None:
        """Send one message. Raises OSError."""

    @abstractmethod
    def answered(self, data: bytes, when: float) -> None:
        """Look at one datagram and tell the sink when it is an answer."""

    @abstractmethod
    def quoted(self, packet: bytes) -> int | None:
        """The sequence number of a message quoted in an ICMP error; None when it is not of this probe."""

    def start(self) -> None:
        try:
            self._opened()
        except OSError:
            return  # send() tries again, and tells

    def send(self, seq: int) -> None:
        self.latest = seq
        try:
            self._send(seq)
        except OSError as error:
            self.sink.failed(seq, reason(error))

    def close(self) -> None:
        if self._socket is not None:
            self.loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _send(self, seq: int) -> None:
        """A second try cures what has nothing to do with this message."""
        sock = self._opened()
        try:
            self.transmit(sock, seq)
        except OSError as error:
            if error.errno in NOT_THE_SOCKET:
                raise
            self._repair(sock)
            self.transmit(self._opened(), seq)

    def _repair(self, sock: socket.socket) -> None:
        """An ICMP error of an earlier message waits; send() and recv() report it once, in the place of their own work.

        If none does, then the device or address is gone, perhaps for another of the same name: SO_BINDTODEVICE holds an
        ifindex. The kernel has many words for that (ENODEV, ENXIO, ENETDOWN, ENETUNREACH, EINVAL).
        """
        if not self._complaints(sock):
            self.close()

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = self.open()
            self.loop.add_reader(self._socket, self._readable)
        return self._socket

    def _readable(self) -> None:
        for _unused in range(MOST_AT_ONCE):
            if self._socket is None:  # the sink closed the probe
                return
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                self._repair(self._socket)
            else:
                self.answered(data, self.loop.time())

    def _complaints(self, sock: socket.socket) -> bool:
        """Tell the sink of the ICMP errors that wait; whether there were any."""
        when = self.loop.time()
        found = complaints(sock)
        for complaint in found:
            seq = self.quoted(complaint.packet)
            if seq is not None and self._socket is sock:
                self.sink.refused(seq, when, str(complaint))
        return bool(found)
