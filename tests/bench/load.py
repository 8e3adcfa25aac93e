# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs in the client or the server of the forwarding benchmark; one JSON object as first argument.

``role: packets``: opens `flows` UDP sockets to `destinations` (in turns), waits for one answer on each, so that the
flows are established, prints ``ready``, and after a line on standard input sends small datagrams for `seconds`.
``role: connections``: opens TCP connections one after the other for `seconds` and resets each. Prints a JSON object.
``role: server``: answers the first datagrams and accepts connections on `port` until standard input ends.

The sender hands the kernel `segments` datagrams at a time (UDP_SEGMENT). With more than one, the client's device
cannot take that, so its kernel splits them before they leave: every packet crosses the router by itself, and what is
measured is the router's work more than system calls and Python.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from itertools import cycle
from typing import Any

UDP_SEGMENT = 103  # linux/udp.h
SIZE = 18  # octets of payload that make the shortest Ethernet frame
BURST = 512  # packets between two looks at the clock
RESET = struct.pack("ii", 1, 0)
ANSWER_SECONDS, TRIES = 0.5, 10


def connected(destination: str, port: int) -> socket.socket:
    """A UDP flow that the router has seen packets of in both directions."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((destination, port))
    sock.settimeout(ANSWER_SECONDS)
    for _unused in range(TRIES):
        sock.send(b"hello")
        try:
            sock.recv(64)
            break
        except TimeoutError:
            continue
    else:
        raise SystemExit(f"no answer from {destination}")
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    return sock


def send_packets(job: dict[str, Any]) -> dict[str, float]:
    names = cycle(job["destinations"])
    flows = cycle([connected(next(names), job["port"]) for _unused in range(job["flows"])])
    print("ready", flush=True)
    sys.stdin.readline()
    segments = job["segments"]
    payload = b"\0" * (segments * SIZE)
    began, busy, sent = time.monotonic(), time.process_time(), 0
    while (now := time.monotonic()) - began < job["seconds"]:
        for _unused in range(BURST // segments):
            next(flows).send(payload)
        sent += BURST
    return {"sent": sent, "seconds": now - began, "cpu": time.process_time() - busy}


def make_connections(job: dict[str, Any]) -> dict[str, float]:
    destinations = cycle([(name, job["port"]) for name in job["destinations"]])
    print("ready", flush=True)
    sys.stdin.readline()
    began, busy, made = time.monotonic(), time.process_time(), 0
    while (now := time.monotonic()) - began < job["seconds"]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.connect(next(destinations))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        made += 1
    return {"sent": made, "seconds": now - began, "cpu": time.process_time() - busy}


def serve(job: dict[str, Any]) -> dict[str, float]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((job["destinations"][0], job["port"]))
    listener = socket.create_server(("0.0.0.0", job["port"]), backlog=4096)
    listener.setblocking(False)
    print("ready", flush=True)
    waiting = [datagrams, listener, sys.stdin]
    while sys.stdin not in (ready := select.select(waiting, [], [])[0]):
        if datagrams in ready:
            datagrams.sendto(*datagrams.recvfrom(64))
        if listener in ready:
            accept_all(listener)
    return {}


def accept_all(listener: socket.socket) -> None:
    for _unused in range(256):
        try:
            descriptor, _peer = listener._accept()  # type: ignore[attr-defined]  # no socket object: half the time
        except OSError:  # none left, or reset before it was accepted
            return
        os.close(descriptor)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    roles = {"packets": send_packets, "connections": make_connections, "server": serve}
    print(json.dumps(roles[job["role"]](job)), flush=True)
