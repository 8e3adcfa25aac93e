# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's queue of first packets, over nfnetlink_queue: what it asks, and how it is answered.

Names and numbers are those of linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator

from ..nfnetlink import ATTRIBUTE, FIRST, GENERAL, NUMBER, QUEUE, attribute, attributes, message, open_socket
from ..rtnl import ERROR, HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, SOL_NETLINK, split
from .desk import Packet

PACKET, VERDICT, CONFIG = (QUEUE << 8 | number for number in range(3))
NFQA_PACKET_HDR, NFQA_VERDICT_HDR, NFQA_MARK, NFQA_PAYLOAD = 1, 2, 3, 10
NFQA_CFG_CMD, NFQA_CFG_PARAMS, NFQA_CFG_MASK, NFQA_CFG_FLAGS = 1, 2, 4, 5
NFQNL_CFG_CMD_BIND, NFQNL_CFG_CMD_UNBIND = 1, 2
COMMAND = struct.Struct("!BxH")  # command, protocol family, which kernels since 3.8 ignore
NFQNL_COPY_PACKET = 2
PARAMETERS = struct.Struct("!IB")  # octets of a packet, copy mode
# What finds the queue full, or the socket, passes; and a burst that the kernel has not cut up yet stays one packet.
NFQA_CFG_F_FAIL_OPEN, NFQA_CFG_F_GSO = 1 << 0, 1 << 2
FLAGS = NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO
NF_ACCEPT = 1
NETLINK_NO_ENOBUFS = 5  # linux/netlink.h
ROOM = 4 << 20
RESOURCE = struct.Struct("!H")
LONGEST = 4096  # octets of a message: a packet's are some 200
MARK_HEADER = ATTRIBUTE.pack(ATTRIBUTE.size + NUMBER.size, NFQA_MARK)
# linux/netfilter/nfnetlink_queue.h, struct nfqnl_msg_verdict_hdr
VERDICT_SIZE = 2 * NUMBER.size


class Packets:
    """One socket for all queues. Closing it, as the kernel does for a process that is killed, drops what waits in them;
    from then on rules with a bypass let everything pass."""

    def __init__(self, copied: int) -> None:
        """`copied`: octets of each packet that are told. Raises OSError."""
        self._copied = copied
        # what a verdict of each queue begins with, without a mark and with one
        self._queues: dict[int, tuple[bytes, bytes]] = {}
        # packets that came while an answer to a request of ours was waited for
        self._early: deque[Packet] = deque()
        self._sequence = 0
        self._socket = open_socket(buffer=ROOM)
        # where the buffer is full the packet passes, and nobody has to be told
        self._socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def queues(self) -> frozenset[int]:
        return frozenset(self._queues)

    def bind(self, number: int) -> None:
        """Answer for this queue from now on; raises OSError, EBUSY where another process does."""
        self._configure(number, NFQA_CFG_CMD, COMMAND.pack(NFQNL_CFG_CMD_BIND, 0))
        flags = attribute(NFQA_CFG_FLAGS, NUMBER.pack(FLAGS)) + attribute(NFQA_CFG_MASK, NUMBER.pack(FLAGS))
        self._configure(number, NFQA_CFG_PARAMS, PARAMETERS.pack(self._copied, NFQNL_COPY_PACKET), flags)
        plain = VERDICT_SIZE + ATTRIBUTE.size
        self._queues[number] = _verdict(number, plain), _verdict(number, plain + len(MARK_HEADER) + NUMBER.size)

    def unbind(self, number: int) -> None:
        """Raises OSError."""
        self._configure(number, NFQA_CFG_CMD, COMMAND.pack(NFQNL_CFG_CMD_UNBIND, 0))
        del self._queues[number]

    def _configure(self, number: int, kind: int, content: bytes, more: bytes = b"") -> None:
        self._sequence += 1
        body = attribute(kind, content) + more
        self._socket.send(message(CONFIG, NLM_F_REQUEST | NLM_F_ACK, body, resource=number, sequence=self._sequence))
        while True:
            self._socket.setblocking(True)
            data = self._socket.recv(LONGEST)
            if HEADER.unpack_from(data)[1] != NLMSG_ERROR:
                self._early.extend(_packets(data))
            elif HEADER.unpack_from(data)[3] == self._sequence:
                break
        self._socket.setblocking(False)
        code = ERROR.unpack_from(data, HEADER.size)[0]
        if code:
            raise OSError(-code, os.strerror(-code))

    def read(self, most: int) -> Iterator[Packet]:
        """What waits, at most so many; each is to be answered before the next one is taken."""
        for _unused in range(most):
            if self._early:
                yield self._early.popleft()
                continue
            try:
                data = self._socket.recv(LONGEST)
            except BlockingIOError:
                return
            yield from _packets(data)

    def accept(self, packet: Packet, mark: int | None) -> None:
        """Let it go on, with this mark or the one it has. One that is gone by now is nobody's concern."""
        plain, marked = self._queues[packet.queue]
        ident = NUMBER.pack(packet.ident)
        if mark is None:
            self._socket.send(plain + ident)
        else:
            self._socket.send(marked + ident + MARK_HEADER + NUMBER.pack(mark))


def _verdict(number: int, length: int) -> bytes:
    """Of a verdict to accept, all but the packet's number and what follows that."""
    header = HEADER.pack(FIRST + length, VERDICT, NLM_F_REQUEST, 0, 0) + GENERAL.pack(0, 0, number)
    return header + ATTRIBUTE.pack(VERDICT_SIZE + ATTRIBUTE.size, NFQA_VERDICT_HDR) + NUMBER.pack(NF_ACCEPT)


def _packets(data: bytes) -> Iterator[Packet]:
    """Errors are those of verdicts on packets that are gone, and are passed over."""
    for kind, _flags, _sequence, whole in split(data):
        if kind == PACKET:
            found = attributes(whole)
            ident = NUMBER.unpack_from(found[NFQA_PACKET_HDR])[0]
            mark = NUMBER.unpack(found[NFQA_MARK])[0] if NFQA_MARK in found else 0
            yield Packet(
                RESOURCE.unpack_from(whole, FIRST - RESOURCE.size)[0], ident, mark, found.get(NFQA_PAYLOAD, b"")
            )
