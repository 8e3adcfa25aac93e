# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process that answers for the queues. It waits for nothing but the next packet.

Its standard input is a socket of the prober's: a datagram asks how things are, or lists links that are to be shunned
from now on (as JSON); its end is the end.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from contextlib import suppress
from typing import Any

from ..errors import KernelError
from ..layout import BALANCE
from ..local import Files, Sysctl
from ..ports import FilePort
from ..service.journal import Journal
from . import roster
from .desk import Desk
from .flows import ENOUGH
from .nfqueue import Packets
from .tracking import Events, Listing

# Seconds between looks at the file, which take 0.2 % of a processor.
LOOK = 0.04
# Pieces of work in one turn, so that none of them keeps the others waiting: a packet takes some 30 us, a message on a
# connection some 6 us.
TURN = 64
# Between two lists of the whole table, while some connections are known from a list only, at least so many seconds and
# so many times what a list takes; and between attempts at what failed.
GAP, COST_SHARE, RETRY = 5.0, 100, 1.0
NEVER = float("inf")
MOST_BYTES = 1 << 16
QUESTION = b"?"
EVENTS = "net/netfilter/nf_conntrack_events"
WANTED = ("packets", "events", "listing", "channel")


class Helper:
    """Raises OSError where the kernel lets us neither hear of connections nor answer for packets."""

    def __init__(self, channel: socket.socket, journal: Journal, files: FilePort, path: str = BALANCE) -> None:
        self._channel, self._journal, self._files, self._path = channel, journal, files, path
        channel.setblocking(False)
        self._desk = Desk()
        self._events, self._packets = Events(), Packets(ENOUGH)
        self._listing: Listing | None = None
        self._selector = selectors.DefaultSelector()
        for name, source in (("packets", self._packets), ("events", self._events), ("channel", channel)):
            self._selector.register(source, selectors.EVENT_READ, name)
        self._stamp: tuple[int, ...] | None = None
        self._look_at = self._bind_at = self._list_began = 0.0
        self._list_at = NEVER
        self._heard_overruns = self._lists = 0
        self._problem = ""
        self._ended = False

    def run(self) -> None:
        """Until the prober hangs up. What waits then is still answered."""
        while not self._ended:
            self._turn(time.monotonic())
        while self._answer(time.monotonic()):
            pass
        self._packets.close()

    def _turn(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._look(now)
        ready = {key.data for key, _events in self._selector.select(max(0.0, self._look_at - time.monotonic()))}
        work = {"packets": self._answer, "events": self._hear, "listing": self._list, "channel": self._tell}
        for name in WANTED:
            if name in ready:
                work[name](time.monotonic())

    # packets

    def _answer(self, now: float) -> bool:
        """Returns whether there were any."""
        found = False
        for packet in self._packets.read(TURN):
            self._packets.accept(packet, self._desk.mark(packet, now))
            found = True
        return found

    # connections

    def _hear(self, now: float) -> None:
        tell = self._desk.census.tell
        for tracked in self._events.read(TURN):
            tell(tracked)
        if self._events.overruns != self._heard_overruns and self._events.whole:
            self._heard_overruns = self._events.overruns
            self._list_at = now

    def _begin_list(self, now: float) -> None:
        """Those that end from now on are heard of, and those that are known from former lists are looked for."""
        self._end_list()
        self._list_at, self._list_began = NEVER, now
        self._desk.census.begin_list()
        self._listing = Listing()
        self._selector.register(self._listing, selectors.EVENT_READ, "listing")

    def _list(self, now: float) -> None:
        if self._listing is None:
            return
        for tracked in self._listing.read():
            self._desk.census.tell(tracked)
        if self._listing.done:
            self._lists += 1
            if self._listing.torn:
                self._list_at = min(self._list_at, now + RETRY)
            else:
                self._desk.census.end_list()
            self._end_list()
            if self._desk.census.unheard:
                self._list_at = min(self._list_at, now + max(GAP, COST_SHARE * (now - self._list_began)))

    def _end_list(self) -> None:
        if self._listing:
            self._selector.unregister(self._listing)
            self._listing.close()
            self._listing = None

    # what to decide by

    def _look(self, now: float) -> None:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read(now)
        if now >= self._bind_at:
            self._bind(now)
        if now >= self._list_at:
            self._begin_list(now)

    def _read(self, now: float) -> None:
        """A file that is no good changes nothing."""
        try:
            found = roster.parse(self._files.read(self._path))
        except (ValueError, KernelError) as exc:
            self._journal.error(f"{self._path} cannot be used: {exc}")
            return
        if self._desk.follow(found):
            self._list_at = now
        self._bind_at = now

    def _bind(self, now: float) -> None:
        """Answer for the queues that are listed, and for no others."""
        wanted, problems = self._desk.roster.queues, []
        for number in sorted(self._packets.queues - wanted.keys()):
            while self._answer(now):
                pass
            self._packets.unbind(number)
        for number in sorted(wanted.keys() - self._packets.queues):
            try:
                self._packets.bind(number)
            except OSError as exc:
                problems.append(f"queue {number} of policy {wanted[number].policy} cannot be answered: {exc.strerror}")
        if wanted and Sysctl().read([EVENTS]).get(EVENTS) == "0":
            problems.append(f"{EVENTS} is 0: the kernel tells nothing of connections; set it to 1")
        self._bind_at = now + RETRY if problems else NEVER
        problem = "; ".join(problems)
        if problem and problem != self._problem:
            self._journal.error(problem)
        self._problem = problem

    # the prober

    def _tell(self, now: float) -> None:
        try:
            said = self._channel.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said == QUESTION:
            with suppress(OSError):
                self._channel.send(json.dumps(self._report(now)).encode())
        elif said:
            self._desk.shun(json.loads(said))
        else:
            self._ended = True

    def _report(self, now: float) -> dict[str, Any]:
        return {
            "policies": self._desk.report(now),
            "connections": self._desk.census.open,
            "lists": self._lists,
            "overruns": self._heard_overruns,
            "problem": self._problem or None,
        }


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_ino, found.st_size


def serve(descriptor: int) -> None:
    """With the prober's socket at this descriptor, until it is closed. Raises OSError."""
    with socket.socket(fileno=descriptor) as channel:
        Helper(channel, Journal(), Files()).run()
