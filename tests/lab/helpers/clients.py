# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""LAN clients that talk to an echo server and go on whatever happens: TCP that reconnects, UDP and ICMP that stay.

Argument: a JSON object with ``tcp``, ``udp``, ``icmp`` (numbers of flows), ``interval``, ``patience`` (for an answer
over TCP), ``connect_patience`` (seconds all), ``destinations``, ``port``. Prints ``ready``; then reads one JSON object
a line, with ``do``, and prints one. ``begin`` ends all flows and opens new ones from ports after ``first_port``, such
that the server sees ``want`` (empty: any address). ``tell`` prints what the flows saw after ``since``. All times are of
the monotonic clock. A message is the time it was sent at; the answer repeats it and adds the source address seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import struct
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

ATTEMPTS = 64  # to find a flow that the kernel puts on the wanted link
FIRST_ANSWER, DEADLINE = 2.0, 10.0  # seconds: of one attempt, of all flows
LOOK = 0.05  # seconds between looks whether an answer over TCP is there
SOL_RAW, ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h
ECHO, ECHO_REPLY = 8, 0
IP_HEADER, ICMP_HEADER = 20, struct.Struct("!BBHHH")
MAGIC = b"mwan-lab"  # echo servers of the lab answer such an ICMP echo once more, with the source they saw


class Flow:
    """What one client saw; `live()` goes on until it is cancelled."""

    protocol = ""

    def __init__(self, job: dict[str, Any], destination: str, ports: Iterator[int]) -> None:
        self.job = job
        self.destination = destination
        self.ports = ports
        self.answers: list[tuple[float, float, str, int]] = []  # asked, came, source, looks in vain
        self.breaks: list[tuple[float, str]] = []
        self.connects: list[float] = []
        self.first = asyncio.Event()
        self.task = asyncio.create_task(self.live())

    async def live(self) -> None:
        raise NotImplementedError

    def note(self, text: bytes, looks: int = 0) -> None:
        asked, source = text.decode().split(" ")
        self.answers.append((float(asked), time.monotonic(), source, looks))
        self.first.set()

    def broke(self, error: OSError | EOFError) -> None:
        """ECONNRESET and the like; `timeout` when patience was at its end, `closed` when the server hung up."""
        number = error.errno if isinstance(error, OSError) else None
        spoken = "closed" if isinstance(error, EOFError) else "timeout"
        self.breaks.append((time.monotonic(), errno.errorcode.get(number or 0, spoken)))

    def tell(self, since: float) -> dict[str, Any]:
        """From the last answer before `since` on."""
        first = max(0, bisect_left(self.answers, since, key=lambda answer: answer[1]) - 1)
        return {
            "protocol": self.protocol,
            "destination": self.destination,
            "answers": self.answers[first:],
            "breaks": [item for item in self.breaks if item[0] >= since],
            "connects": [when for when in self.connects if when >= since],
        }

    async def pace(self, due: float) -> float:
        """Sleep until `due`; returns the next time to send at. What a pause missed is not made up for."""
        await asyncio.sleep(due - time.monotonic())
        return max(due + float(self.job["interval"]), time.monotonic())


class TcpFlow(Flow):
    """One question at a time, the next one when the last was answered; a broken connection is replaced by a new one."""

    protocol = "tcp"

    async def live(self) -> None:
        while True:
            try:
                await self.session()
            except (OSError, EOFError) as error:
                if getattr(error, "errno", None) == errno.EADDRINUSE:  # an earlier connection lingers there
                    continue
                self.broke(error)
                await asyncio.sleep(self.job["interval"])

    async def session(self) -> None:
        there, here = (self.destination, self.job["port"]), ("0.0.0.0", next(self.ports))
        async with asyncio.timeout(self.job["connect_patience"]):
            reader, writer = await asyncio.open_connection(*there, local_addr=here)
        self.connects.append(time.monotonic())
        try:
            due = time.monotonic()
            while True:
                due = await self.pace(due)
                await self.ask(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stamp() + b"\n")
        reading = asyncio.ensure_future(reader.readline())
        looks = 0
        try:
            async with asyncio.timeout(self.job["patience"]):
                while not (await asyncio.wait({reading}, timeout=LOOK))[0]:
                    looks += 1
        finally:
            reading.cancel()
        line = reading.result()
        if not line:
            raise EOFError
        self.note(line.strip(), looks)


class Datagrams(Flow):
    """Questions at a fixed interval over one socket, answered or not."""

    async def live(self) -> None:
        with self.opened() as sock:
            sock.setblocking(False)
            sock.connect((self.destination, self.job["port"]))
            loop = asyncio.get_running_loop()
            loop.add_reader(sock, self.heard, sock)
            try:
                due = time.monotonic()
                while True:
                    due = await self.pace(due)
                    self.attempt(partial(sock.send, self.question()))
            finally:
                loop.remove_reader(sock)

    def attempt(self, call: Callable[[], Any]) -> Any:
        """An ICMP error of an earlier question comes back from any later call."""
        try:
            return call()
        except BlockingIOError:
            return b""
        except OSError as error:
            self.broke(error)
            return b""

    def heard(self, sock: socket.socket) -> None:
        if (text := self.answer(self.attempt(partial(sock.recv, 2048)))) is not None:
            self.note(text)

    def opened(self) -> socket.socket:
        raise NotImplementedError

    def question(self) -> bytes:
        raise NotImplementedError

    def answer(self, data: bytes) -> bytes | None:
        raise NotImplementedError


class UdpFlow(Datagrams):
    protocol = "udp"

    def opened(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", next(self.ports)))
        return sock

    def question(self) -> bytes:
        return stamp()

    def answer(self, data: bytes) -> bytes | None:
        return data or None


class IcmpFlow(Datagrams):
    """A raw socket, because the kernel chooses the id of a ping socket."""

    protocol = "icmp"

    def opened(self) -> socket.socket:
        self.id = next(self.ports)
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))
        return sock

    def question(self) -> bytes:
        payload = MAGIC + b" " + stamp()
        sums = checksum(ICMP_HEADER.pack(ECHO, 0, 0, self.id, 0) + payload)
        return ICMP_HEADER.pack(ECHO, 0, sums, self.id, 0) + payload

    def answer(self, data: bytes) -> bytes | None:
        """The kernel over there answers too, but does not say whom it saw."""
        message = data[IP_HEADER:]
        if len(message) < ICMP_HEADER.size or ICMP_HEADER.unpack_from(message)[3] != self.id:
            return None
        magic, *text = message[ICMP_HEADER.size :].split(b" ", 1)
        return text[0] if magic == MAGIC and text and b" " in text[0] else None


def stamp() -> bytes:
    return b"%.6f" % time.monotonic()


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Office:
    """Does what the lines say; what a method returns is printed."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.flows: list[Flow] = []
        self.destinations = cycle(job["destinations"])

    async def begin(self, want: str, first_port: int, ports: int) -> str:
        """Returns what went wrong, if anything did."""
        await self.end()
        taken = cycle(range(first_port, first_port + ports))
        kinds: list[type[Flow]] = [TcpFlow] * self.job["tcp"] + [UdpFlow] * self.job["udp"]
        kinds += [IcmpFlow] * self.job["icmp"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(self.open(kind, want, taken) for kind in kinds))
        if len(self.flows) < len(kinds):
            return f"only {len(self.flows)} of {len(kinds)} flows were answered by a server that saw {want or 'them'}"
        self.flows.sort(key=lambda flow: kinds.index(type(flow)))
        return ""

    async def open(self, kind: type[Flow], want: str, ports: Iterator[int]) -> None:
        """Each attempt has a destination and port of its own: what is balanced by either finds another link."""
        for _unused in range(ATTEMPTS if want else 1):
            flow = kind(self.job, next(self.destinations), ports)
            try:
                async with asyncio.timeout(FIRST_ANSWER):
                    await flow.first.wait()
                if want in ("", flow.answers[0][2]):
                    self.flows.append(flow)
                    return
            except TimeoutError:
                pass
            finally:
                if flow not in self.flows:
                    flow.task.cancel()

    async def end(self) -> None:
        ended, self.flows = self.flows, []
        for flow in ended:
            flow.task.cancel()
        await asyncio.gather(*(flow.task for flow in ended), return_exceptions=True)

    async def tell(self, since: float) -> list[dict[str, Any]]:
        return [flow.tell(since) for flow in self.flows]


async def serve(job: dict[str, Any]) -> None:
    office = Office(job)
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        order = json.loads(line)
        print(json.dumps(await getattr(office, order.pop("do"))(**order)), flush=True)
    await office.end()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
