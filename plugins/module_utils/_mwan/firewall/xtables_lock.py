# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of the iptables programs, so that nobody changes a table between our reading and writing it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import KernelError

LOCK_SECONDS = 5.0
_POLL_SECONDS = 0.02


@contextmanager
def xtables_lock(operation: str) -> Iterator[None]:
    """Hold it; raises KernelError."""
    path = os.environ.get("XTABLES_LOCKFILE", "/run/xtables.lock")
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDONLY, 0o600)
    except OSError as exc:
        raise KernelError(operation, path, str(exc)) from exc
    try:
        _wait_for(lock, operation, path)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, operation: str, path: str) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise KernelError(operation, path, f"held by another program for {LOCK_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)
