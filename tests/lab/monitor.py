# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The library's monitor on a lab host, from the outside: what it was told, in order."""

from __future__ import annotations

import json
import queue
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .engine import LIBRARY
from .host import Host
from .traffic import Teller

Told = dict[str, Any]
# seconds without an event after which none is expected any more; and in which one that is expected comes
QUIET, SOON = 0.15, 5.0


class Monitor(Teller):
    """`watched` has the keys devices, gateways (pairs of device and address) and tables."""

    def __init__(self, host: Host, receive_buffer: int = 1 << 20, **watched: Any) -> None:
        super().__init__(host, "monitor.py", str(LIBRARY), str(receive_buffer), json.dumps(watched))

    def order(self, line: str) -> None:
        self.write(line)
        self.wait("done")

    def watch(self, **watched: Any) -> None:
        self.order(json.dumps(watched))

    def wait(self, what: str, timeout: float = 5.0, **fields: Any) -> Told:
        """The next event of that kind with these fields; others before it are passed over."""
        deadline = time.monotonic() + timeout
        passed: list[Told] = []
        while True:
            try:
                told = self.told.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} with {fields} in {timeout} s, but {passed}") from None
            if told["what"] == what and all(told[name] == value for name, value in fields.items()):
                return told
            passed.append(told)

    def rest(self, first: float = QUIET) -> list[Told]:
        """Everything until it is quiet; give SOON for `first` where something is expected."""
        found: list[Told] = []
        while True:
            try:
                found.append(self.told.get(timeout=QUIET if found else first))
            except queue.Empty:
                return found

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """As a process that gets no time. nsenter has become the process itself."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
