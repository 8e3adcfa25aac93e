# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""A DNS question over UDP, and just enough of RFC 1035 to ask it and to know the answer."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import OrderedDict

from .binding import Binding, Sink, endpoint, family_of, open_socket
from .datagram import DatagramProbe

HEADER = struct.Struct("!6H")  # id, flags, number of questions, answers, authorities, additional records
RECURSION_DESIRED, RESPONSE, RCODE = 0x0100, 0x8000, 0x000F
INTERNET = 1
RECORDS = {"A": 1, "NS": 2, "SOA": 6, "AAAA": 28}
NO_ERROR, NAME_ERROR = 0, 3
RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
MOST_OPEN = 256  # questions remembered


class DnsProbe(DatagramProbe):
    """Questions to one server. An answer that the name exists or does not is a reply. Any other code is refused():
    a forwarder at the near end of a dead line still answers, with SERVFAIL."""

    def __init__(
        self,
        server: str,
        name: str,
        binding: Binding,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        *,
        record: str = "NS",
        port: int = 53,
    ) -> None:
        super().__init__(binding, sink, loop)
        self.server = server
        self.port = port
        self.family = family_of(server)
        self.question = question(name, record)
        self._open: OrderedDict[int, int] = OrderedDict()  # id -> seq

    def open(self) -> socket.socket:
        sock = open_socket(self.binding, self.family, socket.SOCK_DGRAM)
        try:
            sock.connect(endpoint(self.server, self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def transmit(self, sock: socket.socket, seq: int) -> None:
        identifier = self._new_identifier()
        sock.send(query(identifier, self.question))
        self._open[identifier] = seq
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def _new_identifier(self) -> int:
        while True:
            identifier = int.from_bytes(os.urandom(2), "big")
            if identifier not in self._open:
                return identifier

    def answered(self, data: bytes, when: float) -> None:
        if is_answer(data, self.question):
            identifier, flags = HEADER.unpack_from(data)[:2]
            seq = self._open.pop(identifier, None)
            if seq is not None:
                self._judge(seq, when, flags & RCODE)

    def _judge(self, seq: int, when: float, code: int) -> None:
        if code in (NO_ERROR, NAME_ERROR):
            self.sink.replied(seq, when)
        else:
            self.sink.refused(seq, when, f"the DNS server says {RCODES.get(code, code)}")

    def quoted(self, packet: bytes) -> int | None:
        """A router that quotes as little as it must leaves nothing of the message: then it was the last one."""
        if len(packet) < 2:
            return self.latest
        return self._open.get(int.from_bytes(packet[:2], "big"))


def query(identifier: int, asked: bytes) -> bytes:
    return HEADER.pack(identifier, RECURSION_DESIRED, 1, 0, 0, 0) + asked


def is_answer(data: bytes, asked: bytes) -> bool:
    """Whether it answers this question; the identifier is the caller's to compare."""
    if len(data) < HEADER.size:
        return False
    echoed = data[HEADER.size : HEADER.size + len(asked)].lower()  # RFC 4343: case is the server's choice
    return bool(HEADER.unpack_from(data)[1] & RESPONSE) and echoed == asked


def question(name: str, record: str) -> bytes:
    """The question section, in lower case. Raises ValueError for what is no name or a record type not in RECORDS."""
    if record not in RECORDS:
        raise ValueError(f"record {record!r}: one of {', '.join(RECORDS)} is needed")
    return encoded_name(name.lower()) + struct.pack("!HH", RECORDS[record], INTERNET)


def encoded_name(name: str) -> bytes:
    """RFC 1035 3.1: labels of 1 to 63 bytes, 255 bytes in all; "." is the root."""
    labels = [label.encode("idna") if not label.isascii() else label.encode() for label in name.rstrip(".").split(".")]
    if labels == [b""]:
        return b"\0"
    encoded = b"".join(bytes([min(len(label), 255)]) + label for label in labels) + b"\0"
    if len(encoded) > 255 or not all(1 <= len(label) <= 63 for label in labels):
        raise ValueError(f"{name!r} is no DNS name")
    return encoded
