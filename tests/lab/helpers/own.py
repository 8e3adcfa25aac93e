# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Connections of this host's own to an echo server, each from a socket of a kind that is asked for.

Prints ``ready``; then reads one JSON object a line: ``protocol``, ``destination``, ``port``, ``timeout``, ``number`` of
connections, and of the sockets ``user`` and ``group`` (numbers) and ``cgroup`` (a directory) that they are made as and
in, ``source``, ``device``, ``mark``, ``tos``; null is none. Prints a list: for each connection the source address that
the server saw, ``timeout``, or the name of the error.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

# one after another: by chance, one would be that of an earlier connection, whose pin it would find
PORTS = cycle(range(20000, 60000))


@contextmanager
def being(job: dict[str, Any]) -> Iterator[None]:
    """The kernel asks for owner and control group when a socket is made, and keeps the answer with it."""
    if job["cgroup"]:
        Path(job["cgroup"], "cgroup.procs").write_text("0", encoding="ascii")
    os.setegid(job["group"] or 0)
    os.seteuid(job["user"] or 0)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        if job["cgroup"]:
            Path(job["cgroup"]).parent.joinpath("cgroup.procs").write_text("0", encoding="ascii")


def made(job: dict[str, Any]) -> socket.socket:
    with being(job):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if job["protocol"] == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(job["timeout"])
    if job["device"]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, job["device"].encode())
    if job["mark"]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, job["mark"])
    if job["tos"]:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, job["tos"])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((job["source"] or "", next(PORTS)))
    return sock


def asked(job: dict[str, Any]) -> str:
    try:
        with made(job) as sock:
            sock.connect((job["destination"], job["port"]))
            sock.send(b"own\n" if job["protocol"] == "tcp" else b"own")
            return sock.recv(4096).decode().split()[1]
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps([asked(job) for _unused in range(job["number"])]), flush=True)


if __name__ == "__main__":
    main()
