# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Connections of different kinds to echo servers, all at the same time.

Prints ``ready``; then reads one JSON object a line: ``flows``, a list of objects with ``protocol``, ``destination``,
``port``, ``timeout`` (seconds), ``source`` (may be empty), ``source_port``, and of the socket ``user`` and ``group``
(numbers), ``mark`` and ``tos``; 0 is none. Prints a list: for each the source address that the server saw,
``timeout``, or the name of the error.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def made(flow: dict[str, Any]) -> socket.socket:
    """The kernel asks for the owner when a socket is made, and keeps the answer with it."""
    os.setegid(flow["group"])
    os.seteuid(flow["user"])
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if flow["protocol"] == "tcp" else socket.SOCK_DGRAM)
    finally:
        os.seteuid(0)
        os.setegid(0)
    sock.settimeout(flow["timeout"])
    if flow["mark"]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, flow["mark"])
    if flow["tos"]:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, flow["tos"])
    sock.bind((flow["source"], flow["source_port"]))
    return sock


def asked(flow: dict[str, Any], sock: socket.socket) -> str:
    try:
        with sock:
            sock.connect((flow["destination"], flow["port"]))
            sock.send(b"path\n" if flow["protocol"] == "tcp" else b"path")
            return sock.recv(4096).decode().split()[1]
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    print("ready", flush=True)
    with ThreadPoolExecutor(64) as pool:
        for line in sys.stdin:
            flows = json.loads(line)["flows"]
            socks = [made(flow) for flow in flows]
            print(json.dumps(list(pool.map(asked, flows, socks))), flush=True)


if __name__ == "__main__":
    main()
