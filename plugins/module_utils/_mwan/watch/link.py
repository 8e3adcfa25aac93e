# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One link: what was heard over it, and which facts of the table follow from that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .damping import Penalty
from .machine import Fact, State
from .quality import FULL, Figures, Quality, figures, window_span
from .settings import ProbeSettings
from .target import NEVER, TargetRecord
from .target_spec import Target
from .window import Window

# index by which the probes of a link's gateway are reported; its answers prove nothing beyond it
GATEWAY = -1
# evidence, in probes without an answer that are overdue: to suspect, and to declare dead with at least so many targets
TO_SUSPECT = 2
TO_BURY = 4
TARGETS_TO_BURY = 2
# from how many explicit negatives on the silence needed is halved; a single one only starts the burst
NEGATIVES_TO_HALVE = 2
# seconds that a link stays down at least, also when it is the only one
REST = 1.0
# A burst ends after so many times T_dead: nothing is learnt from it any more.
BURST_LIMITS = 3
BURST_FACTOR, BURST_SHORTEST, BURST_LONGEST = 4, 0.05, 0.5
# seconds between looks while something depends on probes becoming overdue
POLL = 0.05


@dataclass(frozen=True)
class Pace:
    """How to probe a link now: seconds between the probes of one target, whether to probe its gateway too, and whether
    this is a confirmation burst, which starts at once instead of with the next planned probe."""

    interval: float
    gateway: bool
    burst: bool


class Link:
    """The facts about one link. judge.py asks `look` first, then for `facts`, then tells what it decided by `enter`."""

    def __init__(self, name: str, settings: ProbeSettings, state: State, now: float) -> None:
        self.name = name
        self.state = state
        self.since = now
        self.reason = "not probed yet" if state is State.UNKNOWN else "as before the prober started"
        self.ready = True
        self.trouble = ""
        # whether what is missing may be back in a moment, and until when that ends an outage at once
        self.passing = False
        self._brief_until = NEVER
        self.penalty = Penalty()
        self.quality = Quality(poor=self.reason if state is State.DEGRADED else "")
        self.silent = False
        self.answers = False
        self.stable_since: float | None = None
        # when to look at it again, and whether the next proof of life is a reason to
        self.due_at = now
        self.alert = True
        # silence is counted from here when there is no newer proof of life
        self._floor = now
        self._other_proof = NEVER
        # the proof when other targets were asked than now
        self._proven = NEVER
        self._judged_at = NEVER
        self._outage = False
        self.records: list[TargetRecord] = []
        self.eligible: list[TargetRecord] = []
        self.quorum = 1
        self.configure(settings, now)
        self.wait = settings.up_after

    def configure(self, settings: ProbeSettings, now: float) -> None:
        """Take other settings; what is known of targets that stay is kept, unless their window has another length."""
        span = window_span(settings)
        known = {record.spec: record for record in self.records if record.window.span == span}
        before = [record.spec for record in self.records]
        self.settings = settings
        self.gateway = TargetRecord(None, Window(span))
        self.records = [known.get(spec) or TargetRecord(spec, Window(span)) for spec in settings.targets]
        self.limit = settings.dead
        burst = max(BURST_SHORTEST, min(BURST_LONGEST, settings.interval / BURST_FACTOR))
        self.paces = (Pace(settings.interval, False, False), Pace(burst, False, True), Pace(burst, True, True))
        self.pressed = False
        if list(settings.targets) != before:
            self._floor = max(self._floor, now)

    def exclude(self, faulty: frozenset[Target], now: float) -> None:
        """Leave out targets that answer on no link.

        What the link has proven stays so, whoever is asked from now on; one of which nobody was asked begins anew. And
        what a target lost while it was left out is not held against the link when it is back.
        """
        self._proven = self.proof
        eligible = [record for record in self.records if record.spec not in faulty]
        if eligible and not self.eligible:
            self._floor = max(self._floor, now)
        for record in eligible:
            if record not in self.eligible:
                record.restart()
        self.eligible = eligible
        self.quorum = min(self.settings.quorum, max(1, len(self.eligible)))

    # what happened

    def record(self, target: int) -> TargetRecord:
        return self.gateway if target == GATEWAY else self.records[target]

    def kernel(self, ready: bool, reason: str, now: float, passing: bool) -> None:
        if ready and not self.ready:
            self._floor = now
        self.passing = passing and not ready
        if not ready and not passing:
            self._brief_until = NEVER
        self.ready, self.trouble = ready, "" if ready else reason

    def alive(self, now: float) -> None:
        self._other_proof = now

    def load(self, share: float) -> None:
        for record in self.records:
            record.fill(share > FULL)

    def lag(self, seconds: float, now: float) -> None:
        """Nothing could be heard for `seconds`; after a long stop, what was heard before it says nothing either."""
        self._floor = now if seconds >= self.limit / 2 else min(now, self._floor + seconds)
        self._other_proof = min(now, self._other_proof + seconds)
        self._proven = min(now, self._proven + seconds)
        for record in (*self.records, self.gateway):
            record.shift(seconds, now)
        if self.stable_since is not None:
            self.stable_since = min(now, self.stable_since + seconds)

    def pardon(self, now: float) -> None:
        """Grant one more round of probes before this link's silence counts, and all of T_dead / 2 after that."""
        self._floor = now - self.limit / 2 + self.settings.interval

    # what follows

    @property
    def _heard(self) -> float:
        """When as many targets as the quorum asks for had last been heard."""
        heard = [self._other_proof, *(record.heard for record in self.eligible)]
        return max(heard) if self.quorum == 1 else sorted(heard, reverse=True)[self.quorum - 1]

    @property
    def proof(self) -> float:
        """The last proof of life; not before silence began to count."""
        return max(self._floor, self._proven, self._heard)

    @property
    def answered_sent(self) -> float:
        """When the newest probe that was answered had been sent."""
        return max((record.answered_sent for record in self.records), default=NEVER)

    @property
    def usable(self) -> bool:
        """Whether other links can leave their traffic to this one."""
        known = self.state is not State.UNKNOWN or self.answers
        return self.ready and self.state.serves and not self.silent and known

    def look(self, now: float) -> None:
        """Find out what can be said without the other links."""
        for record in (*self.records, self.gateway):
            record.expire(now, self.limit)
        proof = self.proof
        negatives = len(self.negatives(proof))
        self.limit = self._limit(halved=negatives >= NEGATIVES_TO_HALVE)
        judged = self.ready and bool(self.eligible)
        self.silent = judged and now >= proof + self.limit / 2 and self._overdue(proof, now)[0] >= TO_SUSPECT
        self.answers = self.ready and not self.silent and (not self.records or self._heard > self._floor)
        asked = self.silent or (negatives > 0 and now >= proof + self.settings.interval)
        asked = asked and self.state is not State.DOWN and now < proof + BURST_LIMITS * self.limit
        # the burst begins at once, so that the answer comes in time
        self.pressed = asked or (self.ready and bool(self.records) and not self.answers and self._brief(now))
        self._keep_stable(now)
        self._keep_windows(silent_for_long=self.silent and now >= proof + self.limit)
        if now >= self._judged_at + self.gateway.window.width:
            self._judged_at = now
            self._judge_quality(now)

    def _judge_quality(self, now: float) -> None:
        if self.answers:
            self.quality.judge(self.figures(now), self.settings, now)

    def _keep_stable(self, now: float) -> None:
        if self.state is not State.DOWN or not self.answers:
            self.stable_since = None
        elif self.stable_since is None:
            self.stable_since = now
            self._outage = True

    def _keep_windows(self, silent_for_long: bool) -> None:
        """Begin to measure anew after an outage: its losses say nothing about the link that comes back."""
        if self.silent:
            self._outage = self._outage or silent_for_long
        elif self._outage:
            self._outage = False
            for record in self.records:
                record.restart()

    def figures(self, now: float) -> Figures:
        return figures(self.eligible, now)

    def negatives(self, since: float) -> list[str]:
        return [why for record in (*self.eligible, self.gateway) for why in record.refusals(since)]

    def _limit(self, halved: bool) -> float:
        """T_dead: the configured silence, or as long as the quorum's answers and the next probe may take."""
        patience = sorted(record.patience for record in self.eligible if record.patience is not None)
        expected = patience[min(self.quorum, len(patience)) - 1] + self.settings.interval if patience else 0.0
        return max(self.settings.dead / (2 if halved else 1), expected)

    def _overdue(self, since: float, now: float) -> tuple[int, int]:
        """Probes sent since then whose answer is overdue, and how many targets they went to."""
        counts = [record.unanswered(since, now - self._patience(record)) for record in self.eligible]
        return sum(counts), sum(count > 0 for count in counts)

    def misses(self, record: TargetRecord, now: float) -> bool:
        """Whether this target would be silent here, were it the only one."""
        since = max(self._floor, record.heard)
        if now < since + self.limit / 2:
            return False
        return record.unanswered(since, now - self._patience(record)) >= TO_SUSPECT

    def hears_another(self, target: TargetRecord, now: float) -> bool:
        return any(record is not target and now < record.heard + self.limit / 2 for record in self.records)

    def _patience(self, record: TargetRecord) -> float:
        return self.limit / 2 if record.patience is None else record.patience

    def dead(self, now: float) -> bool:
        """Silent for T_dead, with evidence from two targets; from all, where fewer would do to miss the quorum."""
        proof = self.proof
        if not self.silent or now < proof + self.limit:
            return False
        probes, targets = self._overdue(proof, now)
        return probes >= TO_BURY and targets >= min(TARGETS_TO_BURY, len(self.eligible) - self.quorum + 1)

    def _brief(self, now: float) -> bool:
        return self.state is State.DOWN and now < self._brief_until

    @property
    def at_ease(self) -> bool:
        """Whether no fact about other links can matter."""
        return self.ready and self.state.serves and not self.silent

    def facts(self, others: Iterable[Link], now: float) -> Fact:
        """The facts that hold; those about other links only where they matter."""
        found = {
            Fact.BROKEN: not self.ready,
            Fact.SILENT: self.silent,
            Fact.ANSWERS: self.answers,
            Fact.STABLE: self.stable_since is not None and now >= self.stable_since + self.wait,
            Fact.BRIEF: self._brief(now),
            Fact.RESTED: now >= self.since + REST,
            Fact.POOR: bool(self.quality.poor),
            Fact.FINE: not self.quality.poor,
        }
        if not self.at_ease:
            found.update(self._compared([other for other in others if other is not self and other.usable], now))
        facts = Fact.NOTHING
        for fact, holds in found.items():
            if holds:
                facts |= fact
        return facts

    def _compared(self, usable: Sequence[Link], now: float) -> dict[Fact, bool]:
        return {
            Fact.DEAD: self.dead(now) and self._witnessed(usable),
            Fact.BACKED: any(not other.records or other.proof > self.wanted for other in usable),
            Fact.ALONE: not usable,
            Fact.HELD: not usable or (bool(self.records) and not self.eligible),
        }

    @property
    def wanted(self) -> float:
        """Answers from after this show that another link works while this one does not.

        Those to probes from before a common outage may arrive an interval apart.
        """
        return self.proof + self.settings.interval

    def _witnessed(self, usable: Sequence[Link]) -> bool:
        """Whether a probe that left well into this link's silence was answered elsewhere: then no target is to blame.

        A link without targets is there to be trusted.
        """
        return any(not other.records or other.answered_sent > self.wanted for other in usable)

    def enter(self, state: State, reason: str, now: float) -> None:
        if state is State.DOWN:
            lenient = self.passing and self.penalty.lenient(self.settings, now)
            self._brief_until = now + self.settings.flush_delay if lenient else NEVER
            self.wait = self.penalty.outage(self.settings, now)
            self.pressed = False
            self.quality.reset()
        elif self._brief(now):
            self.penalty.forgive(now)
        self.state, self.since, self.reason = state, now, reason

    def rest(self, now: float) -> None:
        """Say when facts may change next: without a report, and whether by a mere answer.

        The same sums as where the facts are found, to the last bit: a moment that is now must have had its effect.
        """
        self.due_at = min((moment for moment in self._moments(now) if moment > now), default=float("inf"))
        self.alert = self.pressed or self.state is State.UNKNOWN or not self.at_ease

    def _moments(self, now: float) -> list[float]:
        moments = [self.since + REST, self._brief_until]
        if self.records:
            # most often one of the other moments comes in time for it
            moments.append(self._judged_at + 2 * self.gateway.window.width)
        if self.ready and self.eligible:
            moments += self._silences(now)
        if self.stable_since is not None:
            moments.append(self.stable_since + self.wait)
        return moments

    def _silences(self, now: float) -> list[float]:
        """When silence may reach what counts; soon, while only overdue probes are missing for that."""
        proof = self.proof
        moments = [proof + self.limit / 2, proof + self.limit]
        if self.negatives(proof):
            moments.append(proof + self.settings.interval)
        unsure = not self.silent and self.state is not State.DOWN and now >= proof + self.limit / 2
        if self.pressed or unsure:
            moments.append(now + POLL)
        return moments
