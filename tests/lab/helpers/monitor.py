# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The library's monitor in the namespace this runs in.

Arguments: directory of the library's parent (`plugins/module_utils`), size of the receive buffer, and what to watch as
JSON. Prints ``ready``, then each event as a JSON object. A line of input is what to watch from now on; ``raise`` makes
the callback fail at the next event. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from functools import partial
from typing import Any

sys.path.insert(0, sys.argv[1])

from _mwan.events import Event, Watched
from _mwan.monitor import Monitor


class Teller:
    """Prints events, each with the time it arrived."""

    def __init__(self) -> None:
        self.failing = False

    def tell(self, event: Event) -> None:
        said = {"what": type(event).__name__, "when": time.monotonic(), **asdict(event)}
        print(json.dumps(said), flush=True)
        if self.failing:
            self.failing = False
            raise RuntimeError("as the test wants it")


def watched(line: str) -> Watched:
    listed: dict[str, Any] = json.loads(line)
    return Watched(
        devices=frozenset(listed.get("devices", ())),
        gateways=frozenset((device, address) for device, address in listed.get("gateways", ())),
        tables=frozenset(listed.get("tables", ())),
    )


async def serve(receive_buffer: int, first: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    teller = Teller()
    monitor = Monitor(watched(first), teller.tell, loop, receive_buffer)
    monitor.start()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), sys.stdin)
    print("ready", flush=True)
    while line := (await reader.readline()).decode().strip():
        if line == "raise":
            teller.failing = True
        else:
            monitor.watch(watched(line))
        print(json.dumps({"what": "done"}), flush=True)
    monitor.close()
    monitor.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2]), sys.argv[3]))
