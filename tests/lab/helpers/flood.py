# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Numbered UDP datagrams at a fixed rate, and their exact count at the far end.

``flood.py send JSON``: ``destination``, ``port``, ``pps``, ``packets``, ``flows``, ``size`` (bytes of payload),
``source`` (empty: as routing chooses).
``flood.py receive JSON``: ``port``, ``packets`` (of all flows), ``flows``, ``limit`` (seconds in all). Prints
``ready``, and its result when standard input has ended and nothing came for QUIET seconds.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from typing import Any

HEADER = struct.Struct("!II")  # flow, number within the flow
QUIET = 0.3
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond net.core.rmem_max, with CAP_NET_ADMIN
TICK = 0.001
MOST_PER_TICK = 256  # after a pause of the machine: catch up, but not in one burst


class Sender:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.errors = 0
        self.padding = b"\0" * (job["size"] - HEADER.size)
        self.sockets = [self.connected() for _unused in range(job["flows"])]
        self.numbers = [0] * job["flows"]

    def connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.job["source"], 0))
        sock.connect((self.job["destination"], self.job["port"]))
        return sock

    def send(self, flow: int) -> None:
        """A send that reports the ICMP error of an earlier packet has sent nothing: it is repeated once."""
        packet = HEADER.pack(flow, self.numbers[flow]) + self.padding
        self.numbers[flow] += 1
        for _unused in range(2):
            try:
                self.sockets[flow].send(packet)
                return
            except OSError:
                self.errors += 1

    def run(self) -> dict[str, Any]:
        began, sent, total = time.monotonic(), 0, self.job["packets"]
        while sent < total:
            due = min(total, int((time.monotonic() - began) * self.job["pps"]) + 1, sent + MOST_PER_TICK)
            for number in range(sent, due):
                self.send(number % self.job["flows"])
            sent = due
            time.sleep(TICK)
        return {"sent": self.numbers, "errors": self.errors, "seconds": time.monotonic() - began}


class Receiver:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.seen = [bytearray(job["packets"] // job["flows"] + 1) for _unused in range(job["flows"])]
        self.sources: list[set[str]] = [set() for _unused in range(job["flows"])]
        self.duplicates = 0
        self.socket = receiving_socket(job["port"])

    def run(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.job["limit"]
        dropped = dropped_by_machine()
        print("ready", flush=True)
        while time.monotonic() < deadline:
            try:
                data, peer = self.socket.recvfrom(2048)
            except BlockingIOError:  # nothing for QUIET seconds
                if select.select([sys.stdin], [], [], 0)[0]:
                    break
                continue
            flow, number = HEADER.unpack_from(data)
            self.count(flow, number, peer[0])
        return {
            "received": [sum(seen) for seen in self.seen],
            "missing": [[number for number, came in enumerate(seen) if not came] for seen in self.seen],
            "sources": [sorted(sources) for sources in self.sources],
            "duplicates": self.duplicates,
            "dropped_by_machine": dropped_by_machine() - dropped,
        }

    def count(self, flow: int, number: int, source: str) -> None:
        self.duplicates += self.seen[flow][number]
        self.seen[flow][number] = 1
        self.sources[flow].add(source)


def receiving_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(QUIET * 1e6)))
    sock.bind(("0.0.0.0", port))
    return sock


def dropped_by_machine() -> int:
    """Packets lost to full queues of the machine, not of the network: receive buffers here, CPU backlogs anywhere."""
    with open("/proc/net/snmp", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith("Udp:"))
    with open("/proc/net/softnet_stat", encoding="ascii") as file:
        backlog = sum(int(line.split()[1], 16) for line in file)
    return int(values[names.index("RcvbufErrors")]) + backlog


if __name__ == "__main__":
    job = json.loads(sys.argv[2])
    result = Sender(job).run() if sys.argv[1] == "send" else Receiver(job).run()
    print(json.dumps(result), flush=True)
