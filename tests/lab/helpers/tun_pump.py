# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Carry packets between a tun device here and one in the network namespace of another process.

Arguments: device here, process id, device there. Prints ``ready`` once both exist; they exist as long as this does.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
CLONE_NEWNET = 0x40000000
LARGEST = 65536


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


def carry(source: int, sink: int) -> None:
    """Everything that waits, at most 64 packets so that the other direction gets its turn."""
    for _unused in range(64):
        try:
            packet = os.read(source, LARGEST)
        except BlockingIOError:
            return
        try:
            os.write(sink, packet)
        except OSError:  # a line drops what its far end does not take (device down, queue full)
            continue


def main() -> None:
    here = open_tun(sys.argv[1])
    enter_network(sys.argv[2])
    there = open_tun(sys.argv[3])
    print("ready", flush=True)
    poll = select.poll()
    other = {here: there, there: here}
    for fd in other:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _unused in poll.poll():
            carry(fd, other[fd])


if __name__ == "__main__":
    main()
