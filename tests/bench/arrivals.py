# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Runs in the client or the router of the benchmark of least_connections; one JSON object as first argument.

``role: dial``: opens connections to `destinations` one after the other for `seconds` and resets each; tells how long
each took to be answered, in seconds.
``role: burst``: sends `number` datagrams, each of a flow of its own, as fast as it can.
``role: live``: begins connections at random moments, `rate` a second for `seconds`, and holds each for a time drawn
from a Pareto distribution (`shape`, at least `shortest` seconds).
``role: tally``: in the router, tells when and how many connections were open by mark under `mask`, every `interval`
seconds until standard input ends; `library` is the directory of _mwan.

Prints ``ready``, waits for a line, and prints a JSON object at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from itertools import cycle
from typing import Any

RESET = struct.pack("ii", 1, 0)
PATIENCE = 10.0


def dial(job: dict[str, Any]) -> dict[str, Any]:
    destinations, took = cycle(job["destinations"]), []
    began, busy = time.monotonic(), time.process_time()
    while (now := time.monotonic()) - began < job["seconds"]:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect((next(destinations), job["port"]))
            took.append(time.monotonic() - now)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return {"took": took, "seconds": time.monotonic() - began, "cpu": time.process_time() - busy}


def burst(job: dict[str, Any]) -> dict[str, Any]:
    destinations = cycle(job["destinations"])
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began = time.monotonic()
    for number in range(job["number"]):
        sender.sendto(b"x", (next(destinations), 1024 + number % 60000))
    return {"seconds": time.monotonic() - began}


def live(job: dict[str, Any]) -> dict[str, Any]:
    return asyncio.run(_live(job))


async def _live(job: dict[str, Any]) -> dict[str, Any]:
    chance, lives = random.Random(job["seed"]), []
    ends = time.monotonic() + job["seconds"]
    destinations = cycle(job["destinations"])
    while time.monotonic() < ends:
        await asyncio.sleep(chance.expovariate(job["rate"]))
        length = min(job["seconds"], job["shortest"] * chance.paretovariate(job["shape"]))
        lives.append(asyncio.create_task(_one(next(destinations), job["port"], length)))
    for life in lives:
        life.cancel()
    told = await asyncio.gather(*lives, return_exceptions=True)
    return {"begun": len(lives), "failed": sum(isinstance(one, OSError) for one in told)}


async def _one(destination: str, port: int, length: float) -> None:
    _reader, writer = await asyncio.open_connection(destination, port)
    try:
        await asyncio.sleep(length)
    finally:
        with contextlib.suppress(OSError):
            writer.close()


def tally(job: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, job["library"])
    from _mwan.balance.tracking import open_connections

    looks = []
    while not select.select([sys.stdin], [], [], job["interval"])[0]:
        looks.append((time.monotonic(), Counter(open_connections(job["mask"]).values())))
    return {"looks": looks}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({"dial": dial, "burst": burst, "live": live, "tally": tally}[given["role"]](given)), flush=True)
