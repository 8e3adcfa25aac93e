# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""All links of a router: takes reports, compares the links with each other, and says what changes.

Every time is seconds of one monotonic clock that the caller reads. A report is cheap and decides nothing; `decide`
does, and must be called after each round of reports and at `next_deadline`. Read all answers that wait in sockets
before calling it, and tell `lag` first when the process was late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import report
from .link import Link, Pace
from .machine import State, transition
from .settings import ProbeSettings
from .target import NEVER, TargetRecord
from .target_spec import Target

TARGETS_SILENT = "no target answers on any link"
OWN_TARGETS_SILENT = "its targets answer on no link"


@dataclass(frozen=True)
class Change:
    """A link's change of state. `immediate`: the kernel said so, and it is nothing that may pass like a silence."""

    link: str
    before: str
    after: str
    reason: str
    evidence: Mapping[str, Any]
    immediate: bool


class Watch:
    """Watches the links named in `settings`; `adopted` are their states by the last health file."""

    def __init__(self, settings: Mapping[str, ProbeSettings], adopted: Mapping[str, str], now: float) -> None:
        self._links: dict[str, Link] = {}
        # what links that are yet to be declared begin with
        self._adopted = adopted
        self._due = now
        self._held = False
        self._faulty: frozenset[Target] = frozenset()
        # probes answered that were sent before this do not help a link whose silence waits for a witness
        self._wanted = NEVER
        self.configure(settings, now)

    def configure(self, settings: Mapping[str, ProbeSettings], now: float) -> None:
        """Follow other settings: links that stay keep their state and what is known of the targets that stay.

        From here on names and indexes mean the new settings; answers to probes of others must not be reported any more.
        """
        adopted = {name: _adopt(self._adopted.get(name)) for name in settings}
        kept = {name: self._links.get(name) or Link(name, item, adopted[name], now) for name, item in settings.items()}
        self._links = kept
        if settings:  # none are declared while the document cannot be read
            self._adopted = {}
        self._faulty = frozenset()
        for name, item in settings.items():
            if kept[name].settings != item:
                kept[name].configure(item, now)
            kept[name].exclude(self._faulty, now)
            self._touch(kept[name], now)

    # reports

    def sent(self, link: str, target: int, seq: int, now: float) -> None:
        """Probe `seq` of the link's target with this index (link.GATEWAY: its gateway) left."""
        item = self._links[link]
        item.record(target).sent(seq, now, counts=not (item.silent or item.pressed))

    def replied(self, link: str, target: int, seq: int, now: float) -> None:
        item = self._links[link]
        item.record(target).replied(seq, now)
        self._heard(item, now)

    def alive(self, link: str, now: float) -> None:
        """There is other proof of life, such as the counter of the link's probe replies; it counts as one target."""
        item = self._links[link]
        item.alive(now)
        self._heard(item, now)

    def _heard(self, item: Link, now: float) -> None:
        if item.alert or self._held:
            self._touch(item, now)

    def refused(self, link: str, target: int, seq: int, now: float, why: str) -> None:
        """A probe got a negative answer, such as an ICMP unreachable from the gateway."""
        item = self._links[link]
        item.record(target).refused(seq, now, why)
        self._touch(item, now)

    def negative(self, link: str, now: float, why: str) -> None:
        """A negative that belongs to no probe, such as the kernel's word that the gateway's neighbour entry failed."""
        item = self._links[link]
        item.gateway.negatives.append((now, why))
        self._touch(item, now)

    def local_error(self, link: str, target: int, seq: int, now: float, why: str) -> None:
        """The probe could not be sent: no path loss."""
        self._links[link].record(target).not_sent(seq, now, why)

    def kernel(self, link: str, ready: bool, reason: str, now: float, passing: bool = False) -> None:
        """Whether carrier, device and address are there; `reason` says what is missing.

        `passing`: it may be back in a moment, as an address may while the network is set up anew; a carrier is not.
        """
        item = self._links[link]
        item.kernel(ready, reason, now, passing)
        self._touch(item, now)

    def load(self, link: str, share: float) -> None:
        """How much of the link's declared rate is in use, 0 to 1; to be told again and again."""
        self._links[link].load(share)

    def lag(self, seconds: float, now: float) -> None:
        """The process did not run for so long: nothing is held against any link for that time."""
        for item in self._links.values():
            item.lag(seconds, now)
            self._touch(item, now)

    def _touch(self, item: Link, now: float) -> None:
        item.due_at = self._due = now

    # decisions

    def decide(self, now: float) -> list[Change]:
        if now < self._due:
            return []
        links = list(self._links.values())
        looked = self._look([item for item in links if item.due_at <= now], now)
        changes: list[Change] = []
        # A change may be what another link waits for; none of them has more steps to take than there are states.
        for _step in State:
            found = list(self._pass(looked, now))
            if not found:
                break
            changes += found
            looked = self._look_at(links, now)
        self._held = self._nothing_answers()
        self._wanted = max((item.wanted for item in links if item.pressed), default=NEVER)
        for item in looked:
            item.rest(now)
        self._due = min((item.due_at for item in links), default=float("inf"))
        return changes

    def _look(self, due: list[Link], now: float) -> list[Link]:
        """Look at links that are due; at all of them when the others' facts may follow. Returns those looked at."""
        links = list(self._links.values())
        usable = [item.usable for item in links]
        looked = self._look_at(links if self._exclude(due, now) else due, now)
        if self._held and not self._nothing_answers():
            for item in links:
                if item.silent and item.state.serves:
                    item.pardon(now)
        elif usable == [item.usable for item in links]:
            return looked
        return self._look_at(links, now)

    @staticmethod
    def _look_at(links: list[Link], now: float) -> list[Link]:
        for item in links:
            item.look(now)
        return links

    def _pass(self, looked: list[Link], now: float) -> Iterator[Change]:
        """One step of each link that has one to take; those that may return first, so that others can rely on them."""
        for item in sorted(looked, key=lambda item: item.state is not State.DOWN):
            row = transition(item.state, item.facts(self._links.values(), now))
            if row:
                evidence, reason, before = report.evidence(item, now), report.reason(item, row, now), item.state
                item.enter(row.after, reason, now)
                immediate = not item.ready and not item.passing
                yield Change(item.name, before.value, row.after.value, reason, evidence, immediate)

    def _nothing_answers(self) -> bool:
        """Whether links serve in silence, and no other shows that this is their own fault."""
        items = self._links.values()
        silent = any(item.silent and item.state.serves for item in items)
        return silent and not any(item.usable or item.answers for item in items)

    def _exclude(self, due: list[Link], now: float) -> bool:
        """Leave out, on every link, the targets that answer on none. Returns whether these are others than before."""
        if not self._faulty and not any(item.misses(record, now) for item in due for record in item.records):
            return False
        before, self._faulty = self._faulty, frozenset(self._faulty_targets(now))
        for item in self._links.values() if self._faulty != before else ():
            item.exclude(self._faulty, now)
        return self._faulty != before

    def _faulty_targets(self, now: float) -> Iterator[Target]:
        """Targets that are silent on every link, though another target answers on one of these."""
        probing: dict[Target, list[tuple[Link, TargetRecord]]] = {}
        for item in self._links.values():
            for spec, record in zip(item.settings.targets, item.records) if item.ready else ():
                probing.setdefault(spec, []).append((item, record))
        for spec, places in probing.items():
            missed = all(item.misses(record, now) for item, record in places)
            if missed and any(item.hears_another(record, now) for item, record in places):
                yield spec

    def next_deadline(self, now: float) -> float:
        """When `decide` must be called at the latest, unless something is reported before."""
        return max(now, self._due)

    def pace(self, link: str, now: float) -> Pace:
        """How to probe this link now. May change with each report and each `decide`."""
        item = self._links[link]
        usual, asked, burst = item.paces
        if item.pressed:
            return burst
        witness = NEVER < self._wanted <= now and item.ready and item.answered_sent <= self._wanted
        return asked if witness else usual

    @property
    def held(self) -> bool:
        """Whether no target answers on any link, so that silence moves nothing."""
        return self._held

    def snapshot(self, now: float) -> dict[str, Any]:
        """The state of each link with its figures, as plain data."""
        return {name: {**report.snapshot(item, now), "held": self._hold_of(item)} for name, item in self._links.items()}

    def _hold_of(self, item: Link) -> str:
        if item.records and not item.eligible:
            return OWN_TARGETS_SILENT
        return TARGETS_SILENT if self._held and item.silent else ""


def _adopt(state: str | None) -> State:
    """The state to begin with; what is not a probed state, such as "drained", begins as unknown."""
    return State(state) if state in {item.value for item in State} else State.UNKNOWN
