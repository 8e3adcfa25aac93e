# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One connection that a test speaks over, message by message, and so sees the moment it is broken or moved."""

from __future__ import annotations

import json

from .host import Host
from .topology import SERVER
from .traffic import ECHO_PORT, Helper


class Talk(Helper):
    """A TCP or UDP connection to an EchoServer; `want` picks one that the server sees from that address.

    `mark`: of its packets, set on the socket.
    """

    def __init__(
        self,
        client: Host,
        destination: str = SERVER,
        *,
        protocol: str = "tcp",
        want: str = "",
        source: str = "",
        mark: int = 0,
        port: int = ECHO_PORT,
        timeout: float = 2.0,
    ) -> None:
        job = {
            "protocol": protocol,
            "destination": destination,
            "port": port,
            "want": want,
            "source": source,
            "mark": mark,
            "timeout": timeout,
        }
        super().__init__(client, "talk.py", json.dumps(job))

    def ask(self) -> str:
        """The source address the server sees now, `timeout`, `closed`, or the error's name, such as EHOSTUNREACH."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()
