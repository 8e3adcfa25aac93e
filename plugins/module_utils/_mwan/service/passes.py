# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The passes over the router: one at a time, begun when the agenda says so, and what they came to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..events import Event
from ..kernel import State
from .agenda import Agenda, Reason
from .converging import Order, Result
from .following import contradicts

# begins a pass elsewhere; the future is its result
Perform = Callable[[Order], "asyncio.Future[Result]"]


class Passes:
    """`ended` is called with each result, and whether the pass was to repair what others changed."""

    def __init__(
        self, perform: Perform, ended: Callable[[Result, bool], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._perform, self._ended, self._loop = perform, ended, loop
        self._agenda = Agenda(loop.time())
        self._work: asyncio.Future[Result] | None = None
        self._begun = loop.time()
        # what routes and rules were set to last; events that come during a pass wait for what it sets
        self._state: State | None = None
        self._unjudged: list[Event] = []
        self._touched = False
        self._runs = self._changed = self._failed = 0
        self.last = Result()

    @property
    def running(self) -> bool:
        return self._agenda.running

    def lasts(self, now: float) -> float:
        """For how many seconds the one that runs has done so."""
        return now - self._begun if self._agenda.running else 0.0

    @property
    def due(self) -> float:
        return self._agenda.due

    @property
    def fighting(self) -> bool:
        return self._agenda.fighting

    @property
    def done(self) -> int:
        """How many have ended."""
        return self._runs

    def settled(self, now: float) -> bool:
        """Whether nothing has to be done now."""
        return self._agenda.due > now and not self._agenda.running and not self._agenda.asked

    def ask(self, reason: Reason, now: float) -> None:
        self._agenda.ask(reason, now)

    def begin(self, order: Order, now: float) -> None:
        self._agenda.begin(now)
        self._begun = now
        self._work = self._perform(order)
        self._work.add_done_callback(self._drain)

    async def close(self) -> None:
        """Wait for the one that runs."""
        if self._work:
            await asyncio.wait({self._work})

    def own_changed(self, event: Event, now: float) -> None:
        """Somebody set or deleted a rule or a route of ours; if it was not us, that is repaired."""
        if self._agenda.running:
            self._unjudged.append(event)
        elif self._state and contradicts(event, self._state):
            self._agenda.ask(Reason.FOREIGN, now)

    def ruleset_touched(self, now: float) -> None:
        """Somebody touched our firewall rules; during a pass that loads them it was that."""
        if self._agenda.running:
            self._touched = True
        else:
            self._agenda.ask(Reason.FOREIGN, now)

    def _drain(self, work: asyncio.Future[Result]) -> None:
        """What the kernel told of the pass is read before it is over, in the turn after the next one."""
        self._loop.call_soon(self._loop.call_soon, self._finish, work)

    def _finish(self, work: asyncio.Future[Result]) -> None:
        now, result = self._loop.time(), work.result()
        repair = self._agenda.repairing
        self._agenda.end(now, not result.trouble, bool(result.actions))
        self._runs += 1
        self._changed += bool(result.actions)
        self._failed += bool(result.trouble)
        self._state = result.state
        if self._touched and not result.loaded:
            self._agenda.ask(Reason.FOREIGN, now)
        self._touched = False
        events, self._unjudged = self._unjudged, []
        for event in events:
            self.own_changed(event, now)
        before, self.last = self.last, result
        self._ended(before, repair)

    def status(self) -> dict[str, Any]:
        return {
            "runs": self._runs,
            "changed": self._changed,
            "failed": self._failed,
            "last_seconds": self.last.seconds,
            "last_error": self.last.trouble or None,
            "running": self._agenda.running,
            "running_for": round(self._loop.time() - self._begun, 3) if self._agenda.running else None,
        }
