# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Long-lived flows to an echo server: numbered messages at a fixed interval, until standard input ends.

One JSON object as argument: ``protocol`` (tcp or udp), ``destination``, ``port``, ``count`` (flows), ``interval``,
``patience`` and ``grace`` (seconds), ``sources`` (may be empty). Prints ``ready`` when every flow has its first answer
or failed, after ``patience`` at the latest, and at the end a JSON list with one object per flow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from typing import Any


class Flow:
    """One socket for its whole life; it never reconnects."""

    def __init__(self, job: dict[str, Any], number: int) -> None:
        self.job = job
        self.stopping = False
        self.sent = 0
        self.answers: dict[int, float] = {}
        self.seen: Counter[str] = Counter()
        self.error: str | None = None
        self.settled = asyncio.Event()  # first answer, or an error
        kind = socket.SOCK_STREAM if job["protocol"] == "tcp" else socket.SOCK_DGRAM
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.setblocking(False)
        if job["sources"]:
            self.sock.bind((job["sources"][number % len(job["sources"])], 0))

    async def live(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_connect(self.sock, (self.job["destination"], self.job["port"])), 10)
            await self.converse()
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.settled.set()

    async def converse(self) -> None:
        talking = asyncio.create_task(self.talk())
        try:
            await self.listen()
        finally:
            talking.cancel()
            await asyncio.wait([talking])

    async def talk(self) -> None:
        loop = asyncio.get_running_loop()
        due = time.monotonic()
        while not self.stopping:
            await self.send(loop, f"{self.sent}\n".encode())
            self.sent += 1
            due += self.job["interval"]
            await asyncio.sleep(due - time.monotonic())

    async def send(self, loop: asyncio.AbstractEventLoop, message: bytes) -> None:
        """An ICMP error to UDP is a lost message, an error of TCP is for listen() to report; neither ends talk()."""
        with contextlib.suppress(OSError):
            if self.job["protocol"] == "tcp":
                await loop.sock_sendall(self.sock, message)
            else:
                self.sock.send(message.strip())

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        while True:
            try:
                data = await loop.sock_recv(self.sock, 65536)
            except OSError:
                if self.job["protocol"] == "tcp":
                    raise
                continue
            if self.job["protocol"] == "udp":
                data += b"\n"
            elif not data:
                raise ConnectionError("closed by the server")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.note(line.decode())

    def note(self, answer: str) -> None:
        number, source = answer.split(" ")
        self.answers.setdefault(int(number), time.monotonic())
        self.seen[source] += 1
        self.settled.set()

    def stats(self, ended: float) -> dict[str, Any]:
        times = sorted(self.answers.values())
        gaps = [later - earlier for earlier, later in zip(times, [*times[1:], ended], strict=False)]
        return {
            "sent": self.sent,
            "answered": len(self.answers),
            "missing": sorted(set(range(self.sent)) - set(self.answers)),
            "sources": self.seen,
            "longest_gap": max(gaps, default=None),
            "error": self.error,
        }


async def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    flows = [Flow(job, number) for number in range(job["count"])]
    lives = [asyncio.create_task(flow.live()) for flow in flows]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(flow.settled.wait() for flow in flows)), job["patience"])
    print("ready", flush=True)
    await stop.wait()
    ended = time.monotonic()
    for flow in flows:
        flow.stopping = True
    await asyncio.sleep(job["interval"] + job["grace"])  # time for the last answers
    for life in lives:
        life.cancel()
    return [flow.stats(ended) for flow in flows]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))), flush=True)
