# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Carry packets between a tun device here and one in the network namespace of another process.

Arguments: device here, process id, device there. Prints ``ready`` once both exist; they exist as long as this does.
Then each line of standard input, two numbers of seconds, is how long packets from here and from there take from now
on, and is answered with ``done``. Packets keep their order, also when the delay shrinks. Ends with its standard input.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
CLONE_NEWNET = 0x40000000
LARGEST = 65536
ORDERS = 0  # standard input
MOST_UNDER_WAY = 10_000  # packets of one direction; more are dropped, as by any line with a full queue


def open_tun(name: str) -> int:
    """A tun device belongs to the network namespace its file was opened in."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def enter_network(pid: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns to the network of process {pid}")
    os.close(fd)


class Direction:
    """Packets from one device to the other."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.delay = 0.0
        self.under_way: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Everything that waits, at most 64 packets so that the other direction gets its turn."""
        for _unused in range(64):
            try:
                packet = os.read(self.source, LARGEST)
            except BlockingIOError:
                return
            if self.delay or self.under_way:
                self.keep(packet)
            else:
                self.give(packet)

    def keep(self, packet: bytes) -> None:
        if len(self.under_way) < MOST_UNDER_WAY:
            due = time.monotonic() + self.delay
            self.under_way.append((max(due, self.under_way[-1][0]) if self.under_way else due, packet))

    def give(self, packet: bytes) -> None:
        try:
            os.write(self.sink, packet)
        except OSError:  # a line drops what its far end does not take (device down, queue full)
            return

    def deliver(self, now: float) -> float | None:
        """Give what is due; returns seconds until the next packet is."""
        while self.under_way and self.under_way[0][0] <= now:
            self.give(self.under_way.popleft()[1])
        return self.under_way[0][0] - now if self.under_way else None


def carry(directions: list[Direction]) -> None:
    sources = {direction.source: direction for direction in directions}
    while True:
        waits = [wait for direction in directions if (wait := direction.deliver(time.monotonic())) is not None]
        # not poll, whose timeout is in whole milliseconds
        for ready in select.select([*sources, ORDERS], [], [], min(waits, default=None))[0]:
            if ready != ORDERS:
                sources[ready].take()
            elif order := os.read(ORDERS, 4096):  # one line: the next one is not written before the answer
                for direction, seconds in zip(directions, order.split(), strict=True):
                    direction.delay = float(seconds)
                print("done", flush=True)
            else:
                return


def main() -> None:
    here = open_tun(sys.argv[1])
    enter_network(sys.argv[2])
    there = open_tun(sys.argv[3])
    print("ready", flush=True)
    carry([Direction(here, there), Direction(there, here)])


if __name__ == "__main__":
    main()
