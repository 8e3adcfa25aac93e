# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs in the client or the server of the forwarding benchmark; one JSON object as first argument.

``role: packets``: opens `flows` UDP sockets to `destinations` (in turns), waits for one answer on each, so that the
flows are established, prints ``ready``, and after a line on standard input sends small datagrams for `seconds`.
``role: connections``: opens TCP connections one after the other for `seconds` and resets each.
``role: newcomers``: sends the first datagram of each of `count` UDP flows, after a line on standard input.
``role: replies``: waits for `flows` flows to say hello, prints ``ready``, and after a line sends to them, as `packets`.
All of these print a JSON object.
``role: holder``: opens flows as `packets` does, and holds them until standard input ends.
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
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

UDP_SEGMENT = 103  # linux/udp.h
SIZE = 18  # octets of payload that make the shortest Ethernet frame
BURST = 512  # packets between two looks at the clock
RESET = struct.pack("ii", 1, 0)
FIRST_PORT = 10000
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
        except ConnectionRefusedError:  # who is to answer is still starting
            time.sleep(ANSWER_SECONDS / TRIES)
    else:
        raise SystemExit(f"no answer from {destination}")
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    return sock


def open_flows(job: dict[str, Any]) -> list[socket.socket]:
    names = cycle(job["destinations"])
    return [connected(next(names), job["port"]) for _unused in range(job["flows"])]


def send_packets(job: dict[str, Any]) -> dict[str, float]:
    return send_in_turns(job, [sock.send for sock in open_flows(job)])


def send_replies(job: dict[str, Any]) -> dict[str, float]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((job["destinations"][0], job["port"]))
    peers = set()
    while len(peers) < job["flows"]:
        hello, peer = sock.recvfrom(64)
        sock.sendto(hello, peer)
        peers.add(peer)
    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    return send_in_turns(job, [partial(send_to, sock, peer) for peer in peers])


def send_to(sock: socket.socket, peer: tuple[str, int], payload: bytes) -> int:
    return sock.sendto(payload, peer)


def send_in_turns(job: dict[str, Any], senders: list[Callable[[bytes], int]]) -> dict[str, float]:
    turns = cycle(senders)
    print("ready", flush=True)
    sys.stdin.readline()
    segments = job["segments"]
    payload = b"\0" * (segments * SIZE)
    began, busy, sent = time.monotonic(), time.process_time(), 0
    while (now := time.monotonic()) - began < job["seconds"]:
        for _unused in range(BURST // segments):
            next(turns)(payload)
        sent += BURST
    return {"sent": sent, "seconds": now - began, "cpu": time.process_time() - busy}


def hold_flows(job: dict[str, Any]) -> dict[str, float]:
    flows = open_flows(job)
    print("ready", flush=True)
    sys.stdin.readline()
    return {"sent": len(flows)}


def send_newcomers(job: dict[str, Any]) -> dict[str, float]:
    """No two flows of one socket go to the same address and port, so that source NAT can keep every port."""
    names, payload = job["destinations"], b"\0" * SIZE
    each = -(-job["count"] // job["flows"])
    far = [(names[place % len(names)], FIRST_PORT + place // len(names)) for place in range(each)]
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _unused in range(job["flows"])]
    senders = [sock.sendto for sock in socks]
    print("ready", flush=True)
    sys.stdin.readline()
    began, busy = time.monotonic(), time.process_time()
    for peer in far:
        for sender in senders:
            sender(payload, peer)
    cpu, seconds = time.process_time() - busy, time.monotonic() - began
    return {"sent": each * len(socks), "seconds": seconds, "cpu": cpu}


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
    roles = {
        "packets": send_packets,
        "connections": make_connections,
        "newcomers": send_newcomers,
        "replies": send_replies,
        "holder": hold_flows,
        "server": serve,
    }
    print(json.dumps(roles[job["role"]](job)), flush=True)
