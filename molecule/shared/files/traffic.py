# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Web requests from a client of the LAN; prints what came back as one JSON list.

    traffic.py connections HOST TAG COUNT   COUNT connections one after the other, one request each
    traffic.py requests HOST TAG COUNT      eight connections open at once, COUNT requests over each, in turn
    traffic.py steady HOST TAG COUNT        the same with sixteen, and one more in each round; ends when terminated

Every element is the page that came back (the source address the server saw) or `error: ...`; the fifth error is the
last element. With `steady` an element is the list of all of a round, the new connection's last, and errors are borne.
The path of every request begins with TAG, by which the server's access log is searched. Runs inside a container:
standard library only.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator

TIMEOUT_S = 3.0
PAUSE_S = 0.2
KEPT_OPEN, KEPT_STEADY = 8, 16
ERRORS_ENOUGH = 5


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    """One request over the connection, which opens itself where it is not open."""
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"error: {error!r}"


def connections(host: str, tag: str, count: int) -> Iterator[str]:
    for number in range(count):
        connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
        yield ask(connection, f"/{tag}/{number}")
        connection.close()


def requests(host: str, tag: str, count: int) -> Iterator[str]:
    kept = [http.client.HTTPConnection(host, timeout=TIMEOUT_S) for _unused in range(KEPT_OPEN)]
    for number in range(count):
        for connection in kept:
            yield ask(connection, f"/{tag}/{number}")
        time.sleep(PAUSE_S)
    for connection in kept:
        connection.close()


def steady(host: str, tag: str, count: int) -> Iterator[list[str]]:
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: terminated.append(number))
    kept = [http.client.HTTPConnection(host, timeout=TIMEOUT_S) for _unused in range(KEPT_STEADY)]
    for number in range(count):
        path = f"/{tag}/{number}"
        yield [*(ask(connection, path) for connection in kept), *connections(host, tag, 1)]
        if terminated:
            return
        time.sleep(PAUSE_S)


def until_hopeless(answers: Iterator[str]) -> Iterator[str]:
    """The answers up to the fifth error: a router that does not work is told so in seconds."""
    errors = 0
    for answer in answers:
        yield answer
        errors += answer.startswith("error")
        if errors == ERRORS_ENOUGH:
            return


if __name__ == "__main__":
    kind, host, tag, count = sys.argv[1:]
    if kind == "steady":
        json.dump(list(steady(host, tag, int(count))), sys.stdout)
    else:
        answers = {"connections": connections, "requests": requests}[kind](host, tag, int(count))
        json.dump(list(until_hopeless(answers)), sys.stdout)
