# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The library's probes in the namespace this runs in, all in one event loop.

Argument: directory of the library's parent (`plugins/module_utils`). Prints ``ready``; then reads one JSON object
a line (``do`` is a method of Office) and prints one for every verdict. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

from _mwan.probes import Binding, Probe, lookup, make


class Printing:
    """A sink that tells the test; `after` is in seconds from the question."""

    def __init__(self, name: str, office: Office) -> None:
        self.name = name
        self.office = office
        self.asked: dict[int, float] = {}

    def replied(self, seq: int, when: float) -> None:
        self.tell("replied", seq, after=when - self.asked[seq])

    def refused(self, seq: int, when: float, why: str) -> None:
        self.tell("refused", seq, after=when - self.asked[seq], why=why)

    def failed(self, seq: int, why: str) -> None:
        self.tell("failed", seq, why=why)

    def tell(self, what: str, seq: int, **more: Any) -> None:
        self.office.verdicts[what] += 1
        if not self.office.quiet:
            print(json.dumps({"probe": self.name, "what": what, "seq": seq, **more}), flush=True)


class Office:
    """Does what the lines say."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.quiet = False
        self.verdicts = {"replied": 0, "refused": 0, "failed": 0}
        self.probes: dict[str, tuple[Probe, Printing]] = {}

    def make(self, name: str, target: dict[str, Any], binding: dict[str, Any]) -> None:
        sink = Printing(name, self)
        probe = make(target, Binding(**binding), sink, self.loop)
        self.probes[name] = (probe, sink)
        probe.start()

    def send(self, name: str, seq: int) -> None:
        probe, sink = self.probes[name]
        sink.asked[seq] = self.loop.time()
        probe.send(seq)

    def close(self, name: str) -> None:
        self.probes.pop(name)[0].close()

    def lookup(self, name: str, resolver: str, binding: dict[str, Any]) -> None:
        self.looking = self.loop.create_task(self._lookup(name, resolver, binding))

    async def _lookup(self, name: str, resolver: str, binding: dict[str, Any]) -> None:
        try:
            found = await lookup(name, resolver, Binding(**binding), self.loop)
        except OSError as error:
            print(json.dumps({"error": error.strerror}), flush=True)
        else:
            print(json.dumps({"found": found}), flush=True)

    def pace(self, interval: float) -> None:
        """Send by all probes, evenly spread over `interval` seconds, from now on and without a word."""
        self.quiet = True
        for number, name in enumerate(self.probes):
            first = self.loop.time() + interval * (1 + number / len(self.probes))
            self.loop.call_at(first, self.pulse, name, 1, first, interval)

    def pulse(self, name: str, seq: int, when: float, interval: float) -> None:
        self.loop.call_at(when + interval, self.pulse, name, seq + 1, when + interval, interval)
        self.send(name, seq)

    def cost(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "cpu": used.ru_utime + used.ru_stime,
            "peak_kib": peak_kib(),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "threads": threading.active_count(),
        }
        print(json.dumps({"time": self.loop.time(), **self.verdicts, **figures}), flush=True)


def peak_kib() -> int:
    """Not of getrusage(), whose figure begins with that of the process which started this one."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


async def serve() -> None:
    loop = asyncio.get_running_loop()
    office = Office(loop)
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        order = json.loads(line)
        getattr(office, order.pop("do"))(**order)


if __name__ == "__main__":
    asyncio.run(serve())
