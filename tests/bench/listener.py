# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The kernel's notifications in the namespace this runs in, each with the time it came.

Arguments: directory of the library's parent (`plugins/module_utils`), a device, a routing table. Prints ``ready``, then
each event as a JSON object. It runs before all others and reads its messages only when no more come, so that neither
the processes of the router nor its own work make any of them late. Ends with its standard input.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import asdict

sys.path.insert(0, sys.argv[1])

from _mwan.events import Reader, Watched
from _mwan.monitor import RECEIVE_BUFFER, device_names, name_of, open_socket

QUIET_MS = 30


def main(device: str, table: int) -> None:
    watched = Watched(devices=frozenset({device}), tables=frozenset({table}))
    sock = open_socket(watched, RECEIVE_BUFFER)
    reader = Reader(watched, device_names(), name_of)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    poll = select.poll()
    for stream in (sock, sys.stdin):
        poll.register(stream, select.POLLIN | select.POLLHUP)
    print("ready", flush=True)
    waiting: list[tuple[float, bytes]] = []
    while True:
        ready = [descriptor for descriptor, _event in poll.poll(QUIET_MS if waiting else None)]
        if sock.fileno() in ready:
            waiting.append((time.monotonic(), sock.recv(1 << 16)))
        elif ready:
            return
        else:
            for when, datagram in waiting:
                for event in reader.read(datagram):
                    print(json.dumps({"what": type(event).__name__, "when": when, **asdict(event)}), flush=True)
            waiting.clear()


if __name__ == "__main__":
    main(sys.argv[2], int(sys.argv[3]))
