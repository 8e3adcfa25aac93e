# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service manager is told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

AWAITED = {"READY", "RELOADING", "STOPPING"}
MOST_OWED = 16


class Manager:
    """Speaks to the socket that the environment names; without one nobody listens, and nothing is said."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        path = environment.get("NOTIFY_SOCKET", "")
        # a leading @ means the abstract namespace
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.watchdog = _watchdog(environment)
        self._owed: deque[str] = deque(maxlen=MOST_OWED)

    def say(self, **words: object) -> None:
        """Such as READY=1, STATUS="...". What the manager waits for is kept until it is taken; of the rest, there will
        be more."""
        if self._path:
            self._owed.append("\n".join(f"{key}={value}" for key, value in words.items()))
            self.again()
            if not words.keys() & AWAITED and self._owed:
                self._owed.pop()

    def again(self) -> None:
        """Say what has not been taken yet, in its order."""
        with suppress(OSError):
            while self._owed:
                self._socket.sendto(self._owed[0].encode(), self._path)
                self._owed.popleft()

    def close(self) -> None:
        self._socket.close()


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds between two signs of life: half of what the manager waits for; None when it does not wait."""
    pid, period = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not period.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(period) / 2e6
