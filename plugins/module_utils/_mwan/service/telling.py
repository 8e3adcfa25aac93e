# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of the passes over the router: troubles that last, warnings that are new, and what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import wording
from .converging import Result
from .journal import Journal


class Telling:
    """`tell` takes an event's kind and its fields, `lasting` the kind of a trouble that lasts and what it is."""

    def __init__(self, journal: Journal, tell: Callable[..., None], lasting: Callable[[str, str], None]) -> None:
        self._journal, self._tell, self._lasting = journal, tell, lasting
        self._trouble = ""

    def ended(self, result: Result, before: Result, repair: bool, fighting: bool) -> None:
        """A pass came to this, and the one before it to that; `repair`: of what others changed."""
        self._troubles(result, before)
        for warning in result.warnings:
            if warning not in before.warnings:
                self._journal.warning(warning)
        if result.actions:
            what = "repaired what others changed" if repair else "converged"
            if repair and fighting:
                what = "somebody keeps changing what is ours; repaired it again, and will wait longer each time"
            level = wording.WARNING if repair else wording.INFO
            text = f"{what}, in {result.seconds * 1000:.0f} ms: {'; '.join(result.actions)}"
            self._journal.log(level, text, {"actions": len(result.actions)})

    def overtaken(self, work: asyncio.Future[Result]) -> None:
        """New connections were led beside a pass."""
        result = work.result()
        if result.actions:
            text = f"led new connections while a run over the router lasts: {'; '.join(result.actions)}"
            self._journal.log(wording.INFO, text, {"actions": len(result.actions)})
        if result.trouble:
            self._lasting("steering", result.trouble)

    def _troubles(self, result: Result, before: Result) -> None:
        """What fails once may be devices that come and go under the pass: it is told when it fails again."""
        former, self._trouble = self._trouble, result.trouble if before.trouble else ""
        if self._trouble and self._trouble != former:
            self._tell("converge_failed", reason=self._trouble, duration=result.seconds)
            if result.where:
                self._journal.error(result.where)
        elif former and not self._trouble:
            self._tell("converge_recovered", reason="the router is as it should be again")
