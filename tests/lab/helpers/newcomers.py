# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""New connections at a steady rate, and which of them were answered.

Argument: a JSON object with ``destination``, ``port``, ``first_port``, ``ports`` (source ports, taken in turns),
``interval`` and ``patience`` (seconds). Prints ``ready``; goes on until its input ends, and prints a list of pairs:
the monotonic time a connection was tried at, and whether an answer came within its patience.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from functools import partial
from itertools import cycle
from typing import Any


async def attempt(job: dict[str, Any], port: int) -> bool:
    """The first line of an echo server is its answer."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        # an earlier connection from this port, to another destination, may linger
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", port))
        await asyncio.get_running_loop().sock_connect(sock, (job["destination"], job["port"]))
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(b"hello\n")
        return bool(await reader.readline())
    finally:
        writer.transport.abort()


async def tried(job: dict[str, Any], port: int) -> tuple[float, bool]:
    began = time.monotonic()
    try:
        return began, await asyncio.wait_for(attempt(job, port), job["patience"])
    except (OSError, TimeoutError):
        return began, False


async def serve(job: dict[str, Any]) -> None:
    ports = cycle(range(job["first_port"], job["first_port"] + job["ports"]))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), sys.stdin)
    ended = asyncio.ensure_future(reader.read())
    print("ready", flush=True)
    attempts = []
    due = time.monotonic()
    while not ended.done():
        attempts.append(asyncio.ensure_future(tried(job, next(ports))))
        due = max(due + job["interval"], time.monotonic())
        await asyncio.wait([ended], timeout=due - time.monotonic())
    print(json.dumps(await asyncio.gather(*attempts)))


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
