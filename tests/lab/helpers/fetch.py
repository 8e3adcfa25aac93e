# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Many HTTP requests, each on a new connection and from a source port of its own.

One JSON object as argument: ``count``, ``destinations``, ``port``, ``path``, ``sources`` (may be empty),
``first_port``, ``concurrency``, ``timeout`` (seconds per trial). Prints a JSON list with one object per trial:
``source_seen`` or ``error``, ``seconds``, ``began`` (monotonic clock), ``destination``, ``source``.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any


async def trial(job: dict[str, Any], number: int, ports: Iterator[int]) -> dict[str, Any]:
    destination = job["destinations"][number % len(job["destinations"])]
    source = job["sources"][number % len(job["sources"])] if job["sources"] else "0.0.0.0"
    began = time.monotonic()
    result: dict[str, Any] = {"destination": destination, "source": source, "began": began}
    try:
        seen = await asyncio.wait_for(ask(job, source, destination, ports), job["timeout"])
        result["source_seen"] = seen
    except TimeoutError:
        result["error"] = "timeout"
    except (OSError, ValueError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    result["seconds"] = time.monotonic() - began
    return result


async def ask(job: dict[str, Any], source: str, destination: str, ports: Iterator[int]) -> str:
    loop = asyncio.get_running_loop()
    with bound(source, ports) as sock:
        await loop.sock_connect(sock, (destination, job["port"]))
        await loop.sock_sendall(sock, f"GET {job['path']} HTTP/1.1\r\nHost: {destination}\r\n\r\n".encode())
        answer = b""
        while part := await loop.sock_recv(sock, 4096):
            answer += part
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or not body:
        raise ValueError(f"short answer {head!r}")
    return body.decode().strip()


def bound(source: str, ports: Iterator[int]) -> socket.socket:
    """A socket on the next port that nothing else uses."""
    while True:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.bind((source, next(ports)))
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:  # a listener or a long-lived flow has that one
                raise


async def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    numbers = iter(range(job["count"]))
    ports = iter(range(job["first_port"], 65536))
    results = []

    async def worker() -> None:
        for number in numbers:
            results.append(await trial(job, number, ports))

    await asyncio.gather(*(worker() for _unused in range(min(job["concurrency"], job["count"]))))
    return results


if __name__ == "__main__":
    json.dump(asyncio.run(run(json.loads(sys.argv[1]))), sys.stdout)
