# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The decision rules of other watchers of links, judging probes that were sent anyway. Pure: times are told.

Both are written from what their authors publish, not taken from their code.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True)
class DpingerSettings:
    """As pfSense and OPNsense start it; times in seconds, `alarm` in percent. dpinger reckons in whole percent."""

    interval: float = 0.5
    period: float = 60.0
    lost_after: float = 2.0
    check_every: float = 1.0
    alarm: int = 20
    checks_to_clear: int = 10

    @property
    def slots(self) -> int:
        return round(self.period / self.interval)


class Dpinger:
    """An alarm while more than `alarm` percent of the last `period` are lost, and for `checks_to_clear` checks more.

    It begins with a period in which everything was answered. Probes are told in the order in which they were sent.
    """

    def __init__(self, settings: DpingerSettings = DpingerSettings(), start: float = 0.0) -> None:
        self.settings = settings
        self.alarms: list[float] = []
        # when each probe was sent, and when its answer came
        self._probes = deque([(start, start)] * settings.slots, maxlen=settings.slots)
        self._next_check = start + settings.check_every
        self._checks_left = 0

    def feed(self, sent: float, delay: float | None) -> None:
        """A probe; `delay` until its answer, None when there was none."""
        self.advance(sent)
        self._probes.append((sent, inf if delay is None else sent + delay))

    def advance(self, now: float) -> None:
        while self._next_check <= now:
            self._check(self._next_check)
            self._next_check += self.settings.check_every

    def _check(self, now: float) -> None:
        if self._loss(now) > self.settings.alarm:
            if not self._checks_left:
                self.alarms.append(now)
            self._checks_left = self.settings.checks_to_clear
        elif self._checks_left:
            self._checks_left -= 1

    def _loss(self, now: float) -> int:
        """Whole percent; a probe that may still be answered counts neither way."""
        answered = sum(came <= now for _sent, came in self._probes)
        overdue = now - self.settings.lost_after
        lost = sum(came > now and sent < overdue for sent, came in self._probes)
        return 100 * lost // (answered + lost) if lost else 0


@dataclass(frozen=True)
class Mwan3Settings:
    """mwan3track's options of the same names, in seconds and rounds, with the defaults of the program.

    reliability and count are 1: a round has succeeded with the first ping that is answered.
    """

    timeout: float = 4.0
    interval: float = 10.0
    down: int = 5
    up: int = 5


# What its configuration file came with for years, and many a router still has.
MWAN3_BRISK = Mwan3Settings(timeout=2.0, interval=5.0, down=3, up=8)


@dataclass
class Mwan3:
    """One target is asked after the other until one answers; so many rounds in a row without make the link go down.

    Probes are told in the order in which they were sent. Most are passed over: those of the target and from the time
    that the rule would send a ping at are taken for its ping.
    """

    targets: int
    settings: Mwan3Settings = Mwan3Settings()
    start: float = 0.0
    downs: list[float] = field(default_factory=list)
    _target: int = 0

    def __post_init__(self) -> None:
        self._due = self.start
        self._online = True
        # rounds in a row that speak against that
        self._against = 0
        self._begin_round()

    def feed(self, target: int, sent: float, delay: float | None) -> None:
        if target != self._target or sent < self._due:
            return
        if delay is not None and delay <= self.settings.timeout:
            self._end_round(sent + delay, failed=False)
        elif self._left:
            self._due = sent + self.settings.timeout
            self._target = self._left.popleft()
        else:
            self._end_round(sent + self.settings.timeout, failed=True)

    def _begin_round(self) -> None:
        self._left = deque(range(self.targets))
        self._target = self._left.popleft()

    def _end_round(self, now: float, failed: bool) -> None:
        self._against = self._against + 1 if failed == self._online else 0
        if self._against == (self.settings.down if self._online else self.settings.up):
            self._online, self._against = not self._online, 0
            if failed:
                self.downs.append(now)
        self._due = now + self.settings.interval
        self._begin_round()


def dpinger_alarm(last_answered: float, phase: float) -> float:
    """When dpinger's rule gives the alarm if no probe after the one sent at `last_answered` is answered.

    It checked `phase` seconds before that probe.
    """
    rule = Dpinger(start=last_answered - phase)
    sent = last_answered
    while not rule.alarms:
        sent += rule.settings.interval
        rule.feed(sent, None)
    return rule.alarms[0]
