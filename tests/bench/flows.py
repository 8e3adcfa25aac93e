# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs in the client or the server of the benchmarks of balancing; a role, and one JSON object.

``flows.py receive JSON``: ``port``, ``limit`` (seconds in all). Prints ``ready``, and when standard input has ended and
nothing came for QUIET seconds a list of [number, source address], in order of arrival.
``flows.py send JSON``: ``flows``, ``destinations`` (taken in turns), ``port``, ``pause`` (seconds after BATCH flows).
Sends one numbered datagram in each of that many flows, each of which is of a client of its own (see address()) and has
the same ports in every run. Prints the seconds of wall clock and of processor that took.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from typing import Any

NUMBER = struct.Struct("!I")
QUIET = 0.3
BATCH = 1000
FIRST_PORT, PORTS = 2000, 60000
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond net.core.rmem_max, with CAP_NET_ADMIN


def address(number: int) -> str:
    """Of a client; there are 64,000."""
    return f"10.0.{number // 250}.{number % 250 + 1}"


def send(job: dict[str, Any]) -> dict[str, float]:
    destinations = job["destinations"]
    began, busy = time.monotonic(), time.process_time()
    for number in range(job["flows"]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address(number), FIRST_PORT + number % PORTS))
            sock.sendto(NUMBER.pack(number), (destinations[number % len(destinations)], job["port"]))
        if number % BATCH == BATCH - 1:
            time.sleep(job["pause"])
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - busy}


def receive(job: dict[str, Any]) -> list[tuple[int, str]]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(QUIET * 1e6)))
    sock.bind(("0.0.0.0", job["port"]))
    deadline = time.monotonic() + job["limit"]
    print("ready", flush=True)
    came: list[tuple[int, str]] = []
    while time.monotonic() < deadline:
        try:
            data, peer = sock.recvfrom(64)
        except BlockingIOError:  # nothing for QUIET seconds
            if select.select([sys.stdin], [], [], 0)[0]:
                break
            continue
        came.append((NUMBER.unpack(data)[0], peer[0]))
    return came


if __name__ == "__main__":
    job = json.loads(sys.argv[2])
    print(json.dumps(send(job) if sys.argv[1] == "send" else receive(job)), flush=True)
