# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health document: each link's state, and whether the connections it still holds are given up. Pure.

Connections of a link that is down are released at once where its device or carrier is gone, and after the link's
flush_delay where it fell silent or lacks an address, because that may pass. Those of a link that others took over from
again are released by its failback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..document import Document
from ..health import RELEASES, STATES, Health
from ..reactions import Failback
from ..resolve import ResolvedLink
from ..serving import FIRST, SUSPECT, Serving
from ..watch.judge import Change
from .wording import iso

SCHEMA = 1
NEVER, AT_ONCE = float("inf"), float("-inf")
NOT_PROBED = "not probed yet"


@dataclass
class Entry:
    """One link. `since` is in seconds since the epoch, for people; all other times are the process's clock."""

    state: str
    since: float
    reason: str
    changed: float
    released: str | None = None
    release_at: float = NEVER
    evidence: Mapping[str, Any] = field(default_factory=dict)
    # whether it has served new connections, and since when better links do in its place, None while they do not
    served: bool = False
    waiting: float | None = None

    def dump(self) -> dict[str, Any]:
        shown = ("reason", "released", "evidence", "served")
        return {"state": self.state, "since": iso(self.since), **{key: getattr(self, key) for key in shown}}


class Overlay:
    """Takes the watch's changes, and tells when something is due. `found` is the last health document as it was read.

    Times are seconds of one monotonic clock; only texts, and a window of the day, are wall time.
    """

    def __init__(self, found: Any, now: float, wall: float) -> None:
        self._document = Document()
        self._delays: dict[str, float] = {}
        self._links: Mapping[str, ResolvedLink] = {}
        self._drained: frozenset[str] = frozenset()
        self._entries: dict[str, Entry] = {}
        # when settle() has something to do, unless it is another minute of the day before
        self._due, self._minute = AT_ONCE, -1
        self._held = False
        self._found = {name: entry for name, entry in adopted(found, now, wall).items() if entry}
        self.version = 0
        # of policies whose weights follow the counts of connections
        self.weights: Mapping[str, Mapping[str, int]] = {}

    def configure(self, document: Document, now: float, wall: float) -> None:
        """Follow the links of this document; those that stay keep what is known of them."""
        known = {**self._found, **self._entries}
        if document.links:  # none are declared while the document cannot be read
            self._found = {}
        entries = {
            link.name: known.get(link.name) or Entry("unknown", wall, NOT_PROBED, now) for link in document.links
        }
        self._document = document
        self._links = {name: link for name, link in self._links.items() if name in entries}
        if entries != self._entries:
            self.version += 1
        self._entries, self._due = entries, AT_ONCE
        self._delays = {name: settings.flush_delay for name, settings in document.probe_settings().items()}
        for name, entry in entries.items():
            if entry.state == "down" and not entry.released:
                entry.release_at = min(entry.release_at, entry.changed + self._delays[name])

    def resolved(self, links: Mapping[str, ResolvedLink], drained: frozenset[str]) -> None:
        """The configured links as they are now, and those that an operator drained."""
        if (links, drained) != (self._links, self._drained):
            self._links, self._drained, self._due = links, drained, AT_ONCE

    @property
    def states(self) -> dict[str, str]:
        """The probed states, without the operator's word."""
        entries = self._entries or self._found
        return {name: entry.state for name, entry in entries.items()}

    def change(self, change: Change, now: float, wall: float) -> None:
        """A link has changed its state."""
        entry = self._entries[change.link]
        entry.state, entry.reason, entry.evidence = change.after, change.reason, change.evidence
        entry.since, entry.changed = wall, now
        down = change.after == "down"
        if down or entry.released == "down":
            entry.released = None
        entry.release_at = NEVER
        if down:
            entry.release_at = now if change.immediate else now + self._delays[change.link]
        self._due = AT_ONCE
        self.version += 1

    def gone(self, name: str, now: float) -> None:
        """A link's device or carrier is missing: if it is down, for whatever reason, that does not pass."""
        entry = self._entries[name]
        if entry.state == "down" and not entry.released:
            entry.release_at = min(entry.release_at, now)
            self._due = AT_ONCE

    def settle(self, now: float, minute: int, held: bool = False) -> None:
        """Release what is due; `minute` of the day, local time. Asked after every answer to a probe, so that it has to
        be quick where there is nothing to do. While the watch is held, no link is known to work, and none is given up.
        """
        if held != self._held:
            self._held, self._due = held, AT_ONCE
        if now < self._due and minute == self._minute:
            return
        serving = self._serving()
        if serving:
            self._note_serving(serving, now)
        for name, entry in self._entries.items():
            before = entry.released
            if entry.state == "down":
                self._give_up(entry, now)
            elif serving:
                self._fail_back(name, entry, serving, now, minute)
            if entry.released != before:
                self.version += 1
        self._due, self._minute = min(self._deadlines(now), default=NEVER), minute

    def _serving(self) -> Serving | None:
        complete = self._entries.keys() <= self._links.keys()
        return Serving(self._document, self.health(), self._links) if complete else None

    def _note_serving(self, serving: Serving, now: float) -> None:
        policies = self._document.policies
        asked = {member.link for policy in policies for member in serving.tier(policy)}
        able = {member.link for policy in policies for member in serving.members(policy)}
        for name, entry in self._entries.items():
            if name in asked and not entry.served:
                entry.served = True
                self.version += 1
            if not entry.served or name not in able - asked or serving.rank(name) != FIRST:
                entry.waiting = None
            elif entry.waiting is None:
                entry.waiting = now

    def _give_up(self, entry: Entry, now: float) -> None:
        if now >= entry.release_at and not self._held:
            entry.released, entry.release_at = "down", NEVER

    def _fail_back(self, name: str, entry: Entry, serving: Serving, now: float, minute: int) -> None:
        failback, waits = self._document.failback(name), entry.waiting is not None
        if entry.released == "failback" and not (failback and (waits or serving.rank(name) == SUSPECT)):
            entry.released = None
        if entry.waiting is not None and failback and by_itself(failback):
            due = now >= entry.waiting + failback.after and within(failback.window, minute)
            entry.released = "failback" if due else entry.released

    def _deadlines(self, now: float) -> Iterator[float]:
        for name, entry in self._entries.items():
            yield NEVER if self._held else entry.release_at
            failback = self._document.failback(name)
            if entry.waiting is not None and failback and by_itself(failback) and now < entry.waiting + failback.after:
                yield entry.waiting + failback.after

    def fail_back(self, name: str) -> str:
        """Release the connections of a link now, as the operator says; returns why not, or nothing."""
        entry = self._entries.get(name)
        if entry is None:
            return f"{name} is not a declared link"
        failback = self._document.failback(name)
        if failback is None:
            return f"{name} is in no policy, or a rule names it: connections that belong there look the same"
        if not moves_something(failback):
            return f"the failback of {name} keeps its connections"
        if entry.waiting is None:
            return f"no better link serves in place of {name}"
        if entry.released != "failback":
            entry.released = "failback"
            self.version += 1
        return ""

    def next_deadline(self) -> float:
        """When settle() has something to do; a window of the day is met as exactly as settle() is called often."""
        return self._due

    def health(self) -> Health:
        """With the operator's word."""
        released = {name: entry.released for name, entry in self._entries.items() if entry.released}
        return Health(self.states, released, self.weights).drained(self._drained)

    def entry(self, name: str) -> Entry:
        return self._entries[name]

    def dump(self, wall: float) -> dict[str, Any]:
        """The health document."""
        links = {name: entry.dump() for name, entry in self._entries.items()}
        return {"schema": SCHEMA, "written": iso(wall), "links": links}


def adopted(found: Any, now: float, wall: float) -> dict[str, Entry | None]:
    """The entries of a health document that make sense."""
    links = found.get("links") if isinstance(found, Mapping) else None
    items = links.items() if isinstance(links, Mapping) else ()
    return {str(name): _adopt(entry, now, wall) for name, entry in items}


def _adopt(data: Any, now: float, wall: float) -> Entry | None:
    if not isinstance(data, Mapping) or data.get("state") not in STATES or data.get("state") == "drained":
        return None
    state, released, evidence = data["state"], data.get("released"), data.get("evidence")
    fits = released in RELEASES and (released == "down") == (state == "down")
    return Entry(
        state=state,
        since=_epoch(data.get("since"), wall),
        reason=str(data.get("reason", "")),
        changed=now,
        released=released if fits else None,
        evidence=evidence if isinstance(evidence, Mapping) else {},
        served=data.get("served") is True,
    )


def _epoch(text: Any, wall: float) -> float:
    """What iso() was given; the present for what it did not write."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return wall


def moves_something(failback: Failback) -> bool:
    return failback.tcp != "keep" or failback.other != "keep"


def by_itself(failback: Failback) -> bool:
    """Whether connections are moved without the operator's word."""
    return moves_something(failback) and not failback.manual


def within(window: tuple[int, int] | None, minute: int) -> bool:
    """Whether the minute of the day is in the window, which may go over midnight."""
    if window is None:
        return True
    first, last = window
    return first <= minute < last if first < last else minute >= first or minute < last
