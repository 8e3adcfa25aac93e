# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines: with fields to the journal where there is one, else to standard error."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping

from .wording import ERROR, INFO, WARNING

JOURNAL = "/run/systemd/journal/socket"
IDENTIFIER = "mwand"
# The journal takes datagrams up to the socket's buffer; what is longer is cut, as no line of ours has to be.
MOST_BYTES = 16384
# the journal is there and has no room now: waiting would hold up the decisions
FULL = (errno.EAGAIN, errno.ENOBUFS)


class Journal:
    """`stream`: standard error is the journal's, as its variable JOURNAL_STREAM says.

    Lines for which the journal has no room are dropped, and counted in the next one that it takes.
    """

    def __init__(self, path: str = JOURNAL, stream: bool | None = None, write: Callable[[str], object] | None = None):
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._stream = "JOURNAL_STREAM" in os.environ if stream is None else stream
        self._write = write or sys.stderr.write
        self._lost = 0

    def log(self, level: int, text: str, fields: Mapping[str, object] | None = None) -> None:
        """`level` as in syslog(3); `fields` are named MWAN_... in the journal."""
        if not (self._stream and self._taken(level, text, fields or {})):
            prefix = f"<{level}>" if self._stream else ""
            self._write(f"{prefix}{text}\n")

    def info(self, text: str) -> None:
        self.log(INFO, text)

    def warning(self, text: str) -> None:
        self.log(WARNING, text)

    def error(self, text: str) -> None:
        self.log(ERROR, text)

    def _taken(self, level: int, text: str, fields: Mapping[str, object]) -> bool:
        named = {f"MWAN_{key.upper()}": value for key, value in fields.items() if value is not None}
        text += f" ({self._lost} lines before this one were lost)" if self._lost else ""
        entry = {"MESSAGE": text, "PRIORITY": level, "SYSLOG_IDENTIFIER": IDENTIFIER, **named}
        try:
            self._socket.sendto(b"".join(encoded(key, str(value)) for key, value in entry.items()), self._path)
        except OSError as exc:
            self._lost += exc.errno in FULL
            return exc.errno in FULL
        self._lost = 0
        return True

    def close(self) -> None:
        self._socket.close()


def encoded(key: str, value: str) -> bytes:
    """One field in the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    data = value.encode("utf-8", "replace")[:MOST_BYTES]
    if b"\n" in data:
        return key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return key.encode() + b"=" + data + b"\n"
