# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ground the links stand on: the kernel's facts, kept current by what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Union

from ..document import Document
from ..errors import KernelError
from ..events import Event, LinkEvent, NeighbourEvent, Overrun, OwnRouteEvent, OwnRuleEvent, Watched
from ..kernel import Facts
from ..ports import RoutingPort
from ..resolve import ResolvedLink, resolve
from .following import moved, watched, with_device

# seconds between two readings of all facts: what a device lost is acted on before, and this takes milliseconds
GAP = 0.02
RETRY = 1.0


@dataclass(frozen=True)
class RulesetTouched:
    """Something of our firewall rules was added, changed or deleted, by us or by others."""


Told = Union[Event, RulesetTouched]


class MonitorPort(Protocol):
    """What monitor.Monitor offers."""

    def start(self) -> None:
        """Raises OSError."""

    def watch(self, watched: Watched) -> None:
        """From now on tell of these."""

    def close(self) -> None:
        """Nothing is told any more."""


OpenMonitor = Callable[[Callable[[Told], object]], MonitorPort]


class Listener(Protocol):
    """Who acts on it. `now` is in the loop's time."""

    def heard(self, now: float) -> None:
        """Something came in; what follows says what."""

    def ground_moved(self, now: float, looked: bool) -> None:
        """Links or facts may be others; `looked`: all facts were read anew."""

    def gateway_failed(self, link: str, why: str, now: float) -> None:
        """The kernel gave up asking for a link's gateway."""

    def own_changed(self, event: Event, now: float) -> None:
        """A rule or route of ours was set or deleted, by us or by others."""

    def ruleset_touched(self, now: float) -> None:
        """Something of our firewall rules is other than it was, by us or by others."""

    def overrun(self) -> None:
        """The kernel dropped notifications."""

    def blind(self, problem: KernelError) -> None:
        """The facts could not be read; they will be soon."""


class Ground:
    """`eyes` read the facts; nobody else may use them. `links` are those of the document, as they are now."""

    def __init__(
        self, eyes: RoutingPort, open_monitor: OpenMonitor, listener: Listener, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._eyes, self._listener, self._loop = eyes, listener, loop
        self._monitor = open_monitor(self._tells)
        self._watched = Watched()
        self._document = Document()
        self.facts = Facts()
        self.links: Mapping[str, ResolvedLink] = {}
        self._look: asyncio.TimerHandle | None = None
        self._looked = loop.time() - GAP

    def start(self) -> None:
        """What happens from here on is told, so that nothing falls between that and the first look. Raises OSError and
        KernelError."""
        self._monitor.start()
        self.facts = self._eyes.facts()

    def close(self) -> None:
        self._monitor.close()
        if self._look:
            self._look.cancel()

    def configure(self, document: Document) -> None:
        self._document = document
        self._resolve()

    def _resolve(self) -> None:
        self.links = resolve(self._document, self.facts)
        wanted = watched(self._document, self.links)
        if wanted != self._watched:
            self._watched = wanted
            self._monitor.watch(wanted)

    def _tells(self, event: Told) -> None:
        now = self._loop.time()
        self._listener.heard(now)
        if isinstance(event, RulesetTouched):
            self._listener.ruleset_touched(now)
        elif isinstance(event, (OwnRouteEvent, OwnRuleEvent)):
            self._listener.own_changed(event, now)
        elif isinstance(event, NeighbourEvent):
            self._neighbour(event, now)
        elif isinstance(event, LinkEvent):
            self._device(event, now)
        else:
            if isinstance(event, Overrun):
                self._listener.overrun()
            self._look_at(now)

    def _device(self, event: LinkEvent, now: float) -> None:
        """A loss is acted on at once, and the facts are read when that is done."""
        self._look_at(now + GAP)
        self.facts = with_device(self.facts, event)
        if not (event.present and event.up and event.carrier):
            self._resolve()
            self._listener.ground_moved(now, looked=False)

    def _neighbour(self, event: NeighbourEvent, now: float) -> None:
        if event.state == "failed":
            for name, link in self.links.items():
                if (link.device, link.gateway) == (event.device, event.address):
                    self._listener.gateway_failed(name, f"gateway {event.address} does not answer the kernel", now)
        elif moved(event, self._document, self.facts):
            self._look_at(now)

    def _look_at(self, moment: float) -> None:
        """Read the facts then, and never twice within GAP."""
        if not self._look:
            self._look = self._loop.call_at(max(moment, self._looked + GAP), self._look_now)

    def _look_now(self) -> None:
        self._look, self._looked = None, self._loop.time()
        try:
            self.facts = self._eyes.facts()
        except KernelError as exc:
            self._listener.blind(exc)
            self._look_at(self._looked + RETRY)
            return
        self._resolve()
        self._listener.ground_moved(self._loop.time(), looked=True)
