# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Servers that say where they were reached and by whom, and clients that ask them.

``open JSON``: ``addresses`` and ``ports`` to serve, over TCP and UDP; every line or datagram is answered with ``SOURCE
ADDRESS:PORT``. Prints ``ready``, ends with its standard input.
``knock JSON``: ``asked``, a list of [protocol, address, port, source (may be empty)], and ``timeout`` in seconds. Asks
all at the same time; prints a JSON list of the answers, or the names of the errors, ``ETIMEDOUT`` for silence.
"""

from __future__ import annotations

import errno
import json
import socket
import socketserver
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Line(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(64):
            address, port = self.request.getsockname()
            self.request.sendall(f"{self.client_address[0]} {address}:{port}".encode())


class Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        _data, sock = self.request
        address, port = sock.getsockname()
        sock.sendto(f"{self.client_address[0]} {address}:{port}".encode(), self.client_address)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def serve(addresses: list[str], ports: list[int]) -> None:
    for place in ((address, port) for address in addresses for port in ports):
        for server in (TcpServer(place, Line), socketserver.UDPServer(place, Datagram)):
            threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def knock(protocol: str, address: str, port: int, source: str, timeout: float) -> str:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(timeout)
        try:
            sock.bind((source, 0))
            sock.connect((address, port))
            sock.sendall(b"?")
            return sock.recv(64).decode()
        except TimeoutError:
            return "ETIMEDOUT"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    job: dict[str, Any] = json.loads(sys.argv[2])
    if sys.argv[1] == "open":
        serve(job["addresses"], job["ports"])
        return
    with ThreadPoolExecutor(max(1, len(job["asked"]))) as pool:
        print(json.dumps(list(pool.map(lambda asked: knock(*asked, job["timeout"]), job["asked"]))))


if __name__ == "__main__":
    main()
