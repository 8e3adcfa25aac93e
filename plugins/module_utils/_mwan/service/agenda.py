# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the router is converged: one run at a time, at once for a link's state, with moderation for all else. Pure."""

from __future__ import annotations

from enum import Enum

NEVER = float("inf")
# seconds from the begin of a run to the next one for what the kernel tells
GAP = 0.2
# without a reason, for what the kernel does not tell
CHECK = 60.0
# after a failed run, and between repairs of what somebody keeps changing: doubled each time
RETRY, LONGEST_RETRY = 1.0, 60.0
REPAIR, LONGEST_REPAIR = 0.2, 10.0
# Repairs that are further apart than this do not count as a fight: a job that reloads the host's firewall each minute
# shall find us as quick as the first time.
PEACE = 30.0


class Reason(Enum):
    """Why the router is to be converged."""

    HEALTH = "health"
    KERNEL = "kernel"
    FOREIGN = "foreign"
    DOCUMENT = "document"


class Agenda:
    """Times are seconds of one monotonic clock. Nothing is due while a run lasts."""

    def __init__(self, now: float) -> None:
        self._due = now
        self._running = False
        # whether others changed something, before the next run and before the one that runs or ran last
        self._to_repair = self._repairing = False
        self._begun = NEVER
        self._next_check = now + CHECK
        self._retry = RETRY
        self._repair = REPAIR
        self._repaired = -NEVER

    def ask(self, reason: Reason, now: float) -> None:
        """Converge as soon as the reason deserves."""
        at = now
        if reason in (Reason.KERNEL, Reason.FOREIGN) and self._begun != NEVER:
            at = max(at, self._begun + GAP)
        if reason is Reason.FOREIGN:
            self._to_repair = True
            at = max(at, self._repaired + (self._repair if now < self._repaired + PEACE else 0.0))
        self._due = min(self._due, at)

    @property
    def due(self) -> float:
        """When to begin; infinity while a run lasts."""
        return NEVER if self._running else min(self._due, self._next_check)

    @property
    def running(self) -> bool:
        return self._running

    @property
    def asked(self) -> bool:
        """Whether there is a reason for another run."""
        return self._due != NEVER

    @property
    def repairing(self) -> bool:
        """Whether the run that runs, or ran last, is to repair what others changed."""
        return self._repairing

    def begin(self, now: float) -> None:
        self._running, self._begun = True, now
        self._due, self._next_check = NEVER, now + CHECK
        self._repairing, self._to_repair = self._to_repair, False

    def end(self, now: float, ok: bool, changed: bool) -> None:
        """A run is over; one that failed is tried again."""
        self._running = False
        if ok:
            self._retry = RETRY
        else:
            self._due = min(self._due, now + self._retry)
            self._retry = min(2 * self._retry, LONGEST_RETRY)
        if self._repairing and changed:
            fight = now < self._repaired + PEACE
            self._repair = min(2 * self._repair, LONGEST_REPAIR) if fight else REPAIR
            self._repaired = now

    @property
    def fighting(self) -> bool:
        """Whether somebody has undone our repairs several times by now."""
        return self._repair > 4 * REPAIR
