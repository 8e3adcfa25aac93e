# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which link each first packet takes: the roster, the census, and the choice between them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

from .census import Census
from .chooser import Candidate, choose
from .flows import of_packet
from .roster import Roster


class Packet(NamedTuple):
    """The first packet of a connection, in front of one of the queues."""

    queue: int
    ident: int
    mark: int
    payload: bytes


class Desk:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.census = Census(0)
        # links that are known to be of no use although they are still listed
        self._shunned: frozenset[str] = frozenset()
        self._serving: dict[int, tuple[Candidate, ...]] = {}
        # where each queue's next turn begins among equals, and what it chose so far
        self._turns: Counter[int] = Counter()
        self._chosen: Counter[tuple[int, int]] = Counter()

    def follow(self, roster: Roster) -> bool:
        """Decide by this one from now on; returns whether the connections have to be counted anew."""
        anew = roster.mask != self.roster.mask
        if anew:
            self.census = Census(roster.mask)
        self.roster = roster
        self._settle()
        return anew

    def shun(self, links: Collection[str]) -> None:
        """Choose none of these, unless there is no other, whatever the roster says: it is a moment older."""
        self._shunned = frozenset(links)
        self._settle()

    def _settle(self) -> None:
        for number, queue in self.roster.queues.items():
            left = tuple(link for link in queue.links if link.name not in self._shunned)
            self._serving[number] = left or queue.links

    def mark(self, packet: Packet, now: float) -> int | None:
        """The mark that the packet is to go on with; None leaves it the one it has, when no link takes connections."""
        queue = self.roster.queues.get(packet.queue)
        if queue is None or not queue.links:
            return None
        flow, links = of_packet(packet.payload), self._serving[packet.queue]
        known = self.census.decided(flow, now)
        serving = {link.mark for link in links}
        mark = known if known is not None and known in serving else self._choose(packet.queue, links, flow, now)
        return packet.mark & ~self.roster.mask | mark

    def _choose(self, number: int, links: tuple[Candidate, ...], flow: bytes, now: float) -> int:
        place = choose(links, self.census.load, self._turns[number])
        self._turns[number] = place + 1
        mark = links[place].mark
        self.census.decide(flow, mark, now)
        self._chosen[number, mark] += 1
        return mark

    def report(self, now: float) -> dict[str, Any]:
        """By policy and link, how many connections are open and how many were placed there."""
        self.census.forget(now)
        return {
            queue.policy: {
                "queue": number,
                "links": {
                    link.name: {
                        "connections": self.census.load.get(link.mark, 0),
                        "chosen": self._chosen[number, link.mark],
                    }
                    for link in queue.links
                },
            }
            for number, queue in self.roster.queues.items()
        }
