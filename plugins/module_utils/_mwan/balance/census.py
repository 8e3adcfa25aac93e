# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many connections each link has open, from what the kernel tells of them. Pure.

A TCP connection counts from its first packet until one side has closed it; others until the kernel forgets them. What
was decided and not yet told of counts as well, for as long as it takes a packet to get through the router at worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

NEW, UPDATE, ENDED, LISTED = "new", "update", "ended", "listed"
# Seconds for which a decision counts that the kernel has told nothing of, and for which it stands: what else of the
# same flow was already on its way goes by the same link.
PENDING = 1.0


class Tracked(NamedTuple):
    """What the kernel tells of a connection. `mark` is None where it has none, `open` where that did not change.

    `ident` is the same in all that is told of one connection, and no other's. `flow` names addresses, protocol and
    ports as flows.py does; it is told with NEW only.
    """

    what: str
    ident: int
    mark: int | None
    open: bool | None
    flow: bytes = b""


@dataclass
class Decision:
    """`counts` until the kernel tells of the connection."""

    mark: int
    when: float
    counts: bool = True


class Census:
    """`mask` says which bits of a connection's mark name its link. Times are seconds of one monotonic clock."""

    def __init__(self, mask: int) -> None:
        self._mask = mask
        # the link's mark of each open connection, by its ident
        self._open: dict[int, int] = {}
        # those of which nothing but a list was heard: the kernel may never tell of their end
        self._listed: set[int] = set()
        self._decided: dict[bytes, Decision] = {}
        self._load: dict[int, int] = {}
        # while the table is listed: what was seen of it, and what ended meanwhile
        self._seen: set[int] | None = None
        self._ended: set[int] = set()
        # what was open when it began: what began later need not be on it
        self._before: frozenset[int] = frozenset()

    @property
    def load(self) -> Mapping[int, int]:
        """Connections and pending decisions by link's mark."""
        return self._load

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def unheard(self) -> int:
        """How many are known from a list only. A kernel that keeps no events for connections which began while nobody
        listened (nf_conntrack_events of 2, the default from Linux 5.19) does not tell when these end."""
        return len(self._listed)

    # what the kernel tells

    def tell(self, tracked: Tracked) -> None:
        if tracked.what == LISTED:
            self._list(tracked)
            return
        self._listed.discard(tracked.ident)
        if tracked.what == NEW:
            self._ended.discard(tracked.ident)
            self._confirm(tracked.flow)
        if tracked.what == ENDED or tracked.open is False:
            self._end(tracked.ident)
        elif tracked.mark is not None and (tracked.open or tracked.ident in self._open):
            self._put(tracked.ident, tracked.mark & self._mask)

    def _list(self, tracked: Tracked) -> None:
        """One that ended while the list was made may still be on it."""
        if self._seen is None or tracked.ident in self._ended or tracked.open is False or tracked.mark is None:
            return
        self._seen.add(tracked.ident)
        if tracked.ident not in self._open and tracked.mark & self._mask:
            self._listed.add(tracked.ident)
            self._put(tracked.ident, tracked.mark & self._mask)

    def _put(self, ident: int, mark: int) -> None:
        before = self._open.get(ident, 0)
        if before == mark:
            return
        if before:
            self._count(before, -1)
        if mark:
            self._open[ident] = mark
            self._count(mark, 1)
        else:
            del self._open[ident]

    def _end(self, ident: int) -> None:
        if self._seen is not None:
            self._ended.add(ident)
        mark = self._open.pop(ident, 0)
        if mark:
            self._count(mark, -1)

    def _count(self, mark: int, by: int) -> None:
        self._load[mark] = self._load.get(mark, 0) + by

    # the table as a whole

    def begin_list(self) -> None:
        """What is told as LISTED from now on is the whole table; an earlier list that did not end is void."""
        self._seen, self._ended = set(), set()
        self._before = frozenset(self._open)

    def end_list(self) -> None:
        """What was known and is not on the list has ended without being heard of."""
        if self._seen is None:
            return
        for ident in self._before - self._seen:
            self._listed.discard(ident)
            self._end(ident)
        self._seen, self._ended, self._before = None, set(), frozenset()

    # what was decided

    def decided(self, flow: bytes, now: float) -> int | None:
        """The link's mark that a packet of the same flow got a moment ago."""
        self.forget(now)
        found = self._decided.get(flow) if flow else None
        return found.mark if found else None

    def decide(self, flow: bytes, mark: int, now: float) -> None:
        former = self._decided.pop(flow, None)
        if former and former.counts:
            self._count(former.mark, -1)
        self._decided[flow] = Decision(mark, now)
        self._count(mark, 1)

    def _confirm(self, flow: bytes) -> None:
        decision = self._decided.get(flow)
        if decision and decision.counts:
            decision.counts = False
            self._count(decision.mark, -1)

    def forget(self, now: float) -> None:
        """Drop the decisions that are too old; they stand in the order in which they were made."""
        while self._decided:
            flow, decision = next(iter(self._decided.items()))
            if now < decision.when + PENDING:
                return
            del self._decided[flow]
            if decision.counts:
                self._count(decision.mark, -1)
