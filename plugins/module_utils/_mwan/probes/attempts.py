# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""What a probe has under way when each question takes a socket or a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

# Over 10 seconds an answer tells nothing that a later question did not.
PATIENCE = 10.0
# Bounds the descriptors during an outage: 60 links with 3 such targets hold 2880. Less would drop, at 200 ms from one
# to the next, answers that are late because of a full buffer.
MOST_AT_ONCE = 16

Stop = Callable[[], None]


@dataclass
class Attempt:
    stop: Stop
    timer: asyncio.TimerHandle


class Attempts:
    """Attempts by sequence number. One that lasts longer than `patience` seconds, or that is the oldest when there are
    too many, is stopped without a word: that is silence."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float, most: int = MOST_AT_ONCE) -> None:
        self._loop = loop
        self._patience = patience
        self._most = most
        self._attempts: dict[int, Attempt] = {}  # oldest first

    @property
    def full(self) -> bool:
        return len(self._attempts) >= self._most

    def add(self, seq: int, stop: Stop) -> None:
        if self.full:
            self.stop(next(iter(self._attempts)))
        self._attempts[seq] = Attempt(stop, self._loop.call_later(self._patience, self.stop, seq))

    def goes_on(self, seq: int, stop: Stop) -> None:
        """What is to be stopped has changed; its time has not."""
        self._attempts[seq].stop = stop

    def ended(self, seq: int) -> None:
        """It ended by itself; again does nothing."""
        attempt = self._attempts.pop(seq, None)
        if attempt is not None:
            attempt.timer.cancel()

    def stop(self, seq: int) -> None:
        attempt = self._attempts.pop(seq)
        attempt.timer.cancel()
        attempt.stop()

    def stop_all(self) -> None:
        for seq in list(self._attempts):
            self.stop(seq)
