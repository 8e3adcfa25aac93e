# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What passes over the links: octets of their devices, and how many connections are pinned to each link."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .errors import KernelError
from .nfnetlink import ATTRIBUTE, CT_GET, CTA_MARK, FIRST, NUMBER, message, open_socket
from .ports import FilePort
from .rtnl import BUFFER, HEADER, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

# The devices of the process's network namespace, whichever namespace /sys was mounted in (net/core/net-procfs.c).
DEVICES = "/proc/net/dev"
RECEIVED, SENT = 0, 8  # columns

# Counting takes at most one part in so many of the time.
COST_SHARE = 100


def octets(files: FilePort) -> dict[str, dict[str, int]]:
    """Octets received and sent by each device of this network namespace."""
    found = {}
    for line in (files.read(DEVICES) or "").splitlines()[2:]:
        name, _colon, columns = line.partition(":")
        counts = columns.split()
        found[name.strip()] = {"received": int(counts[RECEIVED]), "sent": int(counts[SENT])}
    return found


class Connections:
    """Counts tracked connections by mark; asked again too soon it tells its last count.

    The kernel lists every entry: 0.16 s of a processor per 100,000 of them, half of it in the kernel. A thread may do
    this: Python's lock is left free between pieces of 32 KiB, and an event loop beside it ran 0.7 ms late (p99).
    """

    def __init__(
        self,
        count: Callable[[int], Mapping[int, int]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._count = count or count_by_mark
        self._monotonic, self._wall = monotonic, wall
        self._lock = threading.Lock()
        self._mask = 0
        self._again = float("-inf")
        self._found: Mapping[int, int] = {}
        self.counted = 0.0
        self.took = 0.0

    def by_mark(self, mask: int) -> Mapping[int, int]:
        """How many connections carry each mark under `mask`; raises KernelError."""
        with self._lock:
            begun = self._monotonic()
            if begun >= self._again or mask != self._mask:
                self._found, self._mask, self.counted = self._count(mask), mask, self._wall()
                self.took = self._monotonic() - begun
                self._again = begun + COST_SHARE * self.took
            return self._found


def count_by_mark(mask: int) -> dict[int, int]:
    """How many connections the kernel tracks by mark under `mask`, IPv4 and IPv6 together; raises KernelError.

    CTA_MARK with a mask in the request would list one link's entries only, and walk the whole table for each link:
    9 ms for 262,144 buckets with 100,000 entries.
    """
    try:
        with open_socket() as conntrack:
            conntrack.send(message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP))
            return _tally(conntrack, mask)
    except OSError as exc:
        code = errno.errorcode.get(exc.errno or 0, exc.errno)
        raise KernelError("conntrack -L", "all connections", f"{exc.strerror} (errno {code})") from exc


def _tally(conntrack: socket.socket, mask: int) -> dict[int, int]:
    counts: dict[int, int] = {}
    buffer = bytearray(BUFFER)
    while True:
        end, offset = conntrack.recv_into(buffer), 0
        while offset < end:
            length, kind, _flags, _sequence, _port = HEADER.unpack_from(buffer, offset)
            if kind in (NLMSG_ERROR, NLMSG_DONE):
                _check(buffer, offset)
                return counts
            mark = _mark(buffer, offset + FIRST, offset + length) & mask
            counts[mark] = counts.get(mark, 0) + 1
            offset += length + 3 & ~3


def _mark(buffer: bytearray, offset: int, end: int) -> int:
    while offset < end:
        length, kind = ATTRIBUTE.unpack_from(buffer, offset)
        if kind == CTA_MARK:
            return int(NUMBER.unpack_from(buffer, offset + ATTRIBUTE.size)[0])
        offset += length + 3 & ~3
    return 0


def _check(buffer: bytearray, offset: int) -> None:
    code = struct.unpack_from("=i", buffer, offset + HEADER.size)[0]
    if code:
        raise OSError(-code, os.strerror(-code))


def links_traffic(
    files: FilePort, connections: Connections, links: Mapping[str, tuple[str, int]], mask: int
) -> dict[str, Any]:
    """The "traffic" of metrics.render. `links`: device and connection mark by name.

    Octets are told by device, because links that share one cannot be told apart by them. Where connections cannot be
    counted, "error" says why instead.
    """
    of_device = octets(files)
    wanted = dict.fromkeys(device for device, _mark in links.values())
    data: dict[str, Any] = {"devices": {device: of_device[device] for device in wanted if device in of_device}}
    try:
        counts = connections.by_mark(mask)
    except KernelError as exc:
        return {**data, "error": str(exc)}
    pinned = {name: counts.get(mark, 0) for name, (_device, mark) in links.items()}
    return {**data, "connections": pinned, "counted": connections.counted, "took": connections.took}
