# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One connection to an echo server, spoken over when told.

Argument: a JSON object with ``protocol``, ``destination``, ``port``, ``source`` (may be empty), ``want`` (the source
address the server shall see; connections that show another one are given up, ATTEMPTS at most; empty: any), ``mark``
(SO_MARK; 0: none) and ``timeout`` (seconds for one answer). Prints ``ready``; for each line on standard input sends one
message and prints the source address the server saw, ``timeout``, or the name of the error.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from typing import Any

ATTEMPTS = 64


class Talk:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.number = 0
        kind = socket.SOCK_STREAM if job["protocol"] == "tcp" else socket.SOCK_DGRAM
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.settimeout(job["timeout"])
        if job["mark"]:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, job["mark"])
        if job["source"]:
            self.sock.bind((job["source"], 0))
        self.sock.connect((job["destination"], job["port"]))

    def ask(self) -> str:
        self.number += 1
        try:
            end = b"\n" if self.job["protocol"] == "tcp" else b""
            self.sock.send(b"%d%b" % (self.number, end))
            while True:
                number, source = self.sock.recv(4096).decode().split("\n")[0].split(" ")
                if int(number) == self.number:
                    return source
        except TimeoutError:
            return "timeout"
        except ValueError:
            return "closed"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))


def connected(job: dict[str, Any]) -> Talk:
    for _unused in range(ATTEMPTS):
        talk = Talk(job)
        if job["want"] in ("", talk.ask()):
            return talk
    raise SystemExit(f"no connection that {job['want']} was seen of")


def main() -> None:
    talk = connected(json.loads(sys.argv[1]))
    print("ready", flush=True)
    for _unused in sys.stdin:
        print(talk.ask(), flush=True)


if __name__ == "__main__":
    main()
