# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells everybody of an event: the journal, the file of events, who follows them, the hooks, the service manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import KernelError
from . import wording
from .control import Control
from .counters import Counters
from .eventlog import EventLog
from .hooks import Hooks
from .journal import Journal
from .notify import Manager


class Teller:
    """None of them holds anything up. `summary` is one line on how things are."""

    def __init__(
        self,
        journal: Journal,
        manager: Manager,
        events: EventLog,
        hooks: Callable[[Callable[[str], None]], Hooks],
        counters: Counters,
        summary: Callable[[], str],
    ) -> None:
        self._journal, self._manager, self._events, self._counters = journal, manager, events, counters
        self._summary = summary
        self._hooks = hooks(self._hook_ended)
        self._troubles: dict[str, str] = {}
        self.control: Control | None = None

    def tell(self, event: dict[str, Any]) -> None:
        fields = {key: value for key, value in event.items() if key != "evidence"}
        self._journal.log(wording.level(event), wording.line(event), fields)
        try:
            self._events.add(event)
        except KernelError as exc:
            self.trouble("events", str(exc))
        else:
            self.cured("events")
        if self.control:
            self.control.tell(event)
        self._hooks.add(event)
        self.status()

    def trouble(self, kind: str, text: str) -> None:
        """An error of a kind that lasts: told once, and again when it is another one."""
        if self._troubles.get(kind) != text:
            self._troubles[kind] = text
            self._journal.error(text)

    def cured(self, kind: str) -> None:
        self._troubles.pop(kind, None)

    def status(self) -> None:
        self._manager.say(STATUS=self._summary())

    def _hook_ended(self, problem: str) -> None:
        self._counters.hook(not problem)
        if problem:
            self._journal.error(problem)

    async def close(self) -> None:
        await self._hooks.close()
