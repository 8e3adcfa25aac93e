# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs in the client or the server of the benchmark of order: one TCP connection, or numbered datagrams.

Arguments: ``send`` or ``receive``, and a JSON object. ``receive``: ``protocol``, ``port``; prints ``ready``, then what
it saw. ``send``: ``protocol``, ``destination``, ``port``, ``seconds``, and of datagrams ``pps``; prints what it saw.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Any

CHUNK = 1 << 16
NUMBER = struct.Struct("!I")
SIZE = 1200  # octets of a datagram
QUIET = 2.0
PATIENCE = 30.0
# Offsets in struct tcp_info (linux/tcp.h), all of 32 bits.
RTT, TOTAL_RETRANS, DATA_SEGS_IN, DATA_SEGS_OUT, DSACK_DUPS, OUT_OF_ORDER = 68, 100, 152, 156, 216, 224
INFO_SIZE = 232


def tcp_info(sock: socket.socket, offset: int) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE)
    return int(struct.unpack_from("=I", info, offset)[0])


def send_tcp(job: dict[str, Any]) -> dict[str, float]:
    with socket.create_connection((job["destination"], job["port"]), PATIENCE) as sock:
        payload, end = b"\0" * CHUNK, time.monotonic() + job["seconds"]
        while time.monotonic() < end:
            sock.sendall(payload)
        return {
            "sent": tcp_info(sock, DATA_SEGS_OUT),
            "again": tcp_info(sock, TOTAL_RETRANS),
            "needless": tcp_info(sock, DSACK_DUPS),
            "rtt": tcp_info(sock, RTT) / 1e6,
        }


def receive_tcp(job: dict[str, Any]) -> dict[str, float]:
    """Octets a second are those of the time from the first to the last, so that a slow end does not count."""
    with socket.create_server(("0.0.0.0", job["port"])) as listener:
        print("ready", flush=True)
        listener.settimeout(PATIENCE)
        sock, _peer = listener.accept()
    with sock:
        sock.settimeout(PATIENCE)
        octets, began = 0, time.monotonic()
        while data := sock.recv(1 << 20):
            octets += len(data)
        seconds = time.monotonic() - began
        return {
            "octets": octets,
            "seconds": seconds,
            "came": tcp_info(sock, DATA_SEGS_IN),
            "late": tcp_info(sock, OUT_OF_ORDER),
        }


def send_udp(job: dict[str, Any]) -> dict[str, float]:
    padding = b"\0" * (SIZE - NUMBER.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((job["destination"], job["port"]))
        number, began = 0, time.monotonic()
        while (passed := time.monotonic() - began) < job["seconds"]:
            while number < passed * job["pps"]:
                sock.send(NUMBER.pack(number) + padding)
                number += 1
            time.sleep(0.5 / job["pps"])
        return {"sent": number}


def receive_udp(job: dict[str, Any]) -> dict[str, float]:
    """Late is what comes after one with a higher number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", job["port"]))
        print("ready", flush=True)
        sock.settimeout(PATIENCE)
        highest, came, late = -1, 0, 0
        try:
            while True:
                (number,) = NUMBER.unpack_from(sock.recv(2048))
                came, late, highest = came + 1, late + (number < highest), max(number, highest)
                sock.settimeout(QUIET)
        except TimeoutError:
            return {"came": came, "late": late}


if __name__ == "__main__":
    job = json.loads(sys.argv[2])
    roles = {
        ("send", "tcp"): send_tcp,
        ("send", "udp"): send_udp,
        ("receive", "tcp"): receive_tcp,
        ("receive", "udp"): receive_udp,
    }
    print(json.dumps(roles[sys.argv[1], job["protocol"]](job)), flush=True)
