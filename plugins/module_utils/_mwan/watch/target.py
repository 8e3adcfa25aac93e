# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of one target over one link: when it answered, how long that takes, which probes wait for an answer."""

from __future__ import annotations

from collections import deque

from .target_spec import Target
from .window import Window

NEVER = float("-inf")
# RFC 6298 section 2
GAIN, VARIANCE_GAIN, VARIANCES = 1 / 8, 1 / 4, 4
# Answers later than this are proof of life, but their probe is forgotten.
FORGOTTEN_AFTER = 30.0
# more than enough to tell one negative from several
NEGATIVES = 8


class TargetRecord:
    """The probes of one target over one link. `spec` None: the link's gateway, probed only to tell where it breaks."""

    def __init__(self, spec: Target | None, window: Window) -> None:
        self.spec = spec
        self.window = window
        # the answers while the link was not full
        self.unhindered = Window(window.span)
        self._full = False
        self.heard = NEVER
        # when the newest probe that was answered had been sent
        self.answered_sent = NEVER
        self.srtt: float | None = None
        self.rttvar = 0.0
        # why the newest probe could not be sent, "" once one is answered
        self.error, self.error_at = "", NEVER
        self.negatives: deque[tuple[float, str]] = deque(maxlen=NEGATIVES)
        # seq -> when it was sent, and whether it counts for the loss; in order of sending
        self._waiting: dict[int, tuple[float, bool]] = {}
        # the same for those that were counted as lost already
        self._late: dict[int, float] = {}
        # round trips of probes sent before are not measured, because the process stood still in between
        self._measured_from = NEVER

    def sent(self, seq: int, now: float, counts: bool) -> None:
        self._waiting[seq] = (now, counts)

    def replied(self, seq: int, now: float) -> None:
        """An answer is proof of life however late it comes."""
        self.heard = now
        self.error = ""
        sent, counts = self._waiting.pop(seq, (NEVER, False))
        if sent == NEVER:
            sent = self._late.pop(seq, NEVER)
        if sent == NEVER:
            return
        self.answered_sent = max(self.answered_sent, sent)
        if sent >= self._measured_from:
            self._measure(now - sent)
            if counts:
                self.window.answered(now, now - sent)
                if not self._full:
                    self.unhindered.answered(now, now - sent)

    def _measure(self, rtt: float) -> None:
        if self.srtt is None:
            self.srtt, self.rttvar = rtt, rtt / 2
            return
        self.rttvar += VARIANCE_GAIN * (abs(self.srtt - rtt) - self.rttvar)
        self.srtt += GAIN * (rtt - self.srtt)

    def refused(self, seq: int, now: float, why: str) -> None:
        _sent, counts = self._waiting.pop(seq, (NEVER, False))
        self.negatives.append((now, why))
        if counts:
            self.window.lost(now)

    def not_sent(self, seq: int, now: float, why: str) -> None:
        """An error of this host says nothing about the path."""
        self._waiting.pop(seq, None)
        self.error, self.error_at = why, now

    @property
    def patience(self) -> float | None:
        """How long an answer may take: SRTT + 4 RTTVAR, None before the first one."""
        return None if self.srtt is None else self.srtt + VARIANCES * self.rttvar

    def expire(self, now: float, limit: float) -> None:
        """Count probes that wait longer than `limit` as lost, once."""
        while self._waiting:
            seq, (sent, counts) = next(iter(self._waiting.items()))
            if now - sent <= limit:
                break
            del self._waiting[seq]
            self._late[seq] = sent
            if counts:
                self.window.lost(now)
        while len(self._late) > 1:  # the newest one goes on to say that it was asked
            seq, sent = next(iter(self._late.items()))
            if now - sent <= FORGOTTEN_AFTER:
                break
            del self._late[seq]

    def unanswered(self, since: float, before: float) -> int:
        """How many probes sent from `since` on, and not after `before`, have no answer, or a negative one."""
        count = sum(since < when for when, _why in self.negatives)
        for sent, _counts in reversed(self._waiting.values()):
            if sent < since:
                return count
            count += sent <= before
        return count + sum(since <= sent <= before for sent in self._late.values())

    def refusals(self, since: float) -> list[str]:
        return [why for when, why in self.negatives if when > since]

    def fill(self, full: bool) -> None:
        """Whether the link is full. That is known a little late: what was slow just before may have been its doing."""
        self._full = full
        if full:
            self.unhindered.clear()

    def restart(self) -> None:
        """Count the loss from here on; probes on their way no longer count."""
        self.window.clear()
        self.unhindered.clear()
        self._waiting = {seq: (sent, False) for seq, (sent, _counts) in self._waiting.items()}

    def shift(self, seconds: float, now: float) -> None:
        """Forget that `seconds` passed: the process did not run, so nothing was heard and nothing is late."""
        self.heard = min(now, self.heard + seconds)
        self._measured_from = now
        self._waiting = {seq: (min(now, sent + seconds), False) for seq, (sent, _counts) in self._waiting.items()}
        self._late = {seq: min(now, sent + seconds) for seq, sent in self._late.items()}
