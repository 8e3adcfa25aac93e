# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: what is heard goes to the watch, what that decides to the router, and everybody is told.

All of it happens in one event loop, but for the passes over the router, which are made elsewhere, one at a time.
Stopping changes nothing: the kernel forwards on its last state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..document import Document
from ..errors import KernelError
from ..events import Event
from ..store import declared_text
from ..traffic import Connections, links_traffic
from ..watch.judge import Change, Watch
from ..watch.settings import ProbeSettings
from . import status, wording
from .agenda import Reason
from .balancing import Balancing
from .configuration import last_health
from .control import Control, RefusedError
from .converging import Order, Result
from .counters import Counters
from .equipment import Equipment
from .following import gone, readiness
from .ground import Ground
from .load import Loads
from .overlay import Overlay
from .passes import Passes
from .probing import Probing, Way
from .reweighting import Reweighting
from .schedule import Schedule
from .teller import Teller
from .telling import Telling

# seconds; a turn of the loop that is later than this is no fault of any link
LAG = 0.25
# between looks at the files, the time of day and the load
LOOK = 1.0
# between two lines on the process's own lateness
QUIET = 60.0
# A pass waits 10 s for the router's lock, and as long for a program. The last sign of life is at least 5 s younger than
# a pass that lasts longer than this, so that what ends within 35 s is let live by a manager that waits for 30.
LONGEST = 20.0


class Daemon:
    """Begins with start(), after which everything follows from what is heard; ends with close()."""

    def __init__(self, equipment: Equipment, loop: asyncio.AbstractEventLoop) -> None:
        self._equipment, self._loop = equipment, loop
        self._configuration = equipment.configuration
        now, wall = loop.time(), equipment.wall()
        self._started = wall
        self._settings: Mapping[str, ProbeSettings] = {}
        self._overlay = Overlay(last_health(equipment.files), now, wall)
        self._watch = Watch({}, {}, now)
        self._counters = Counters()
        self._probing = Probing(self._watch, self._counters, self.heard, equipment.make_probe, loop)
        self._schedule = Schedule(equipment.random)
        self._ground = Ground(equipment.eyes, equipment.open_monitor, self, loop)
        self._passes = Passes(equipment.perform, self._pass_ended, loop)
        files, journal, manager = equipment.files, equipment.journal, equipment.manager
        self._teller = Teller(journal, manager, equipment.events, equipment.hooks, self._counters, self._summary)
        self._telling = Telling(journal, self._tell, self._teller.trouble)
        self._balancing = Balancing(equipment.balancer, files, journal, loop)
        self._reweighting = Reweighting(files, equipment.count, self._overlay, self._reweighted, self._teller.trouble)
        self._loads, self._connections = Loads(), Connections()
        self._alarm: asyncio.TimerHandle | None = None
        # when the loop was to wake up next, to look at the files, and when it gave a sign of life
        self._planned = self._look_at = self._signed = now
        self._lagged = now - QUIET
        self._waking = self._ready = self._closed = self._held = self._steer = False
        self._ordered = -1

    # life

    async def start(self) -> None:
        """Raises OSError and KernelError for what the process cannot do without."""
        self._ground.start()
        self._configuration.load()
        self._reweighting.load()
        if self._configuration.problem:
            self._tell("reload_failed", reason=self._configuration.problem)
        now = self._loop.time()
        settings = self._configuration.document.probe_settings()
        self._watch = self._probing.watch = Watch(settings, self._overlay.states, now)
        self._configure(now)
        self._look_at = now + LOOK
        control = Control(self._commands(), lambda: list(self._equipment.events.recent), self._equipment.control)
        await control.start()
        self._teller.control = control
        if not self._configuration.stored:
            self._get_ready()

    async def close(self) -> None:
        """Let a pass that runs come to its end, and go."""
        self._equipment.manager.say(STOPPING=1)
        self._closed = True
        if self._alarm:
            self._alarm.cancel()
        self._ground.close()
        self._probing.close()
        await self._passes.close()
        await self._balancing.close()
        await self._teller.close()

    # what is heard

    def heard(self, now: float) -> None:
        """Something came in at this time. When that is late on our own account, nobody is blamed for the time."""
        late = now - self._planned
        if late > LAG:
            self._planned = now
            self._watch.lag(late, now)
            if now >= self._lagged + QUIET:
                self._lagged = now
                self._equipment.journal.warning(f"the process stood still for {late:.1f} s; no link is blamed for it")
        self._wake()

    def ground_moved(self, now: float, looked: bool) -> None:
        """Have everything fit the links as they are now."""
        links, facts, settings = self._ground.links, self._ground.facts, self._configuration.document.settings
        self._overlay.resolved(links, frozenset(self._configuration.drained))
        for name, link in links.items():
            missing = gone(link, facts)
            self._watch.kernel(name, *readiness(link, facts), now, passing=not missing)
            if missing:
                self._overlay.gone(name, now)
        self._probing.follow({name: Way.of(link, facts, settings) for name, link in links.items()}, self._settings)
        self._schedule.keep(links)
        if looked:
            self._passes.ask(Reason.KERNEL, now)
        self._wake()

    def gateway_failed(self, link: str, why: str, now: float) -> None:
        self._watch.negative(link, now, why)

    def own_changed(self, event: Event, now: float) -> None:
        self._passes.own_changed(event, now)

    def ruleset_touched(self, now: float) -> None:
        self._passes.ruleset_touched(now)

    def overrun(self) -> None:
        self._counters.overrun()
        self._equipment.journal.warning("the kernel dropped notifications; everything is read anew")

    def blind(self, problem: KernelError) -> None:
        self._teller.trouble("facts", f"the kernel's facts cannot be read: {problem}")

    # configuration

    def _configure(self, now: float) -> None:
        """Follow the document: everything that is per link is so from here on."""
        document = self._configuration.document
        self._settings = document.probe_settings()
        self._watch.configure(self._settings, now)
        self._overlay.configure(document, now, self._equipment.wall())
        self._counters.configure(
            {
                name: [*(target.label for target in settings.targets), "gateway"]
                for name, settings in self._settings.items()
            }
        )
        self._ground.configure(document)
        self.ground_moved(now, looked=False)

    def reload(self) -> None:
        """Read the files, and look at the router even without news: what reloads us may have flushed our rules."""
        manager = self._equipment.manager
        manager.say(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        self._read_files()
        self._passes.ask(Reason.DOCUMENT, self._loop.time())
        manager.say(READY=1, STATUS=self._summary())

    def _read_files(self) -> None:
        """Read the files again; a document that is no good is told of, and the former one stays in force."""
        configuration = self._configuration
        before = (configuration.document, configuration.problem, configuration.drained, configuration.stored)
        configuration.load()
        now = self._loop.time()
        if configuration.problem:
            self._counters.reloaded(ok=False)
            if configuration.problem != before[1]:
                self._tell("reload_failed", reason=configuration.problem)
        else:
            self._reloaded(before[0], fresh=bool(before[1]) or configuration.stored != before[3], now=now)
        if configuration.drained != before[2]:
            self._drained(before[2], now)
        self._wake()

    def _reloaded(self, before: Document, fresh: bool, now: float) -> None:
        """What the runs keep for themselves in the document is no news."""
        self._counters.reloaded(ok=True)
        document = self._configuration.document
        if fresh or declared_text(document) != declared_text(before):
            stored = self._configuration.stored
            self._tell("reload", reason="the stored document is in force" if stored else "nothing is declared any more")
            self._configure(now)
            self._passes.ask(Reason.DOCUMENT, now)

    def _drained(self, before: Mapping[str, Mapping[str, Any]], now: float) -> None:
        after = self._configuration.drained
        for name in sorted(self._ground.links.keys() & (before.keys() ^ after.keys())):
            state = self._overlay.entry(name).state
            why = str(after.get(name, {}).get("why") or "by the operator")
            states = {"before": "drained", "after": state} if name in before else {"before": state, "after": "drained"}
            self._tell("state", link=name, reason=why, **states)
        self._overlay.resolved(self._ground.links, frozenset(after))
        self._passes.ask(Reason.HEALTH, now)

    # time

    def _wake(self) -> None:
        """Decide when everything that waits in sockets has been read: the turn after the next one."""
        if not self._waking and not self._closed:
            self._waking = True
            self._loop.call_soon(self._loop.call_soon, self._decide)

    def _ring(self) -> None:
        now = self._loop.time()
        self.heard(now)
        for link, target in self._schedule.take(now):
            self._probing.send(link, target, now)
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._every_second(now)

    def _every_second(self, now: float) -> None:
        if self._configuration.is_new():
            self._read_files()
        for name, share in self._loads.read(self._configuration.document.links, self._equipment.files, now).items():
            if name in self._ground.links:
                self._watch.load(name, share)
        self._balancing.look()
        self._reweighting.look(self._configuration.document, self._ground.links, now)
        self._equipment.manager.again()
        self._sign(now)

    def _sign(self, now: float) -> None:
        """Give a sign of life, unless a pass has come to no end: then the service manager is to start us anew."""
        watchdog = self._equipment.manager.watchdog
        if watchdog and now >= self._signed + watchdog - LOOK / 2:
            if self._passes.lasts(now) > LONGEST:
                self._teller.trouble("pass", f"a run over the router has not ended for {LONGEST:.0f} s")
                return
            self._signed = now
            self._equipment.manager.say(WATCHDOG=1)

    def _decide(self) -> None:
        self._waking = False
        if self._closed:
            return
        now = self._loop.time()
        try:
            decides = self._watch.next_deadline(now) <= now
            changes = self._watch.decide(now) if decides else []
            self._act(changes, now)
            if decides:  # what else there is to it can wait for that: it is a matter of all links
                self._pace(now)
            self._announce(changes)
        finally:
            self._arm(now)

    def _act(self, changes: list[Change], now: float) -> None:
        for change in changes:
            self._overlay.change(change, now, self._equipment.wall())
        local = time.localtime(self._equipment.wall())
        self._overlay.settle(now, 60 * local.tm_hour + local.tm_min, self._watch.held)
        if self._overlay.version != self._ordered:
            # the first pass adopts what there is
            self._ordered, self._steer = self._overlay.version, self._ordered >= 0
            self._passes.ask(Reason.HEALTH, now)
            self._balancing.shun(self._overlay.health().kept_out())
            self._overtake()
        if self._configuration.stored and self._passes.due <= now:
            self._passes.begin(self._order(), now)
            self._steer = False

    def _overtake(self) -> None:
        """A pass that runs may wait for the router's lock, or for a program that hangs: links do not wait for that."""
        if self._passes.running and self._configuration.stored:
            self._equipment.steer(self._order()).add_done_callback(self._telling.overtaken)

    def _pace(self, now: float) -> None:
        for name in self._ground.links:
            pace = self._watch.pace(name, now)
            self._schedule.follow(name, self._probing.targets(name, pace.gateway), pace, now)

    def _arm(self, now: float) -> None:
        if self._alarm:
            self._alarm.cancel()
        moments = [self._schedule.next(), self._watch.next_deadline(now), self._overlay.next_deadline(), self._look_at]
        if self._configuration.stored:
            moments.append(self._passes.due)
        self._planned = max(now, min(moments))
        self._alarm = self._loop.call_at(self._planned, self._ring)

    # the router

    def _order(self) -> Order:
        """What to start from; leading away by a document that has just been replaced would lead to the wrong place."""
        return Order(
            self._overlay.dump(self._equipment.wall()),
            self._overlay.health(),
            self._configuration.document,
            self._ground.facts,
            self._steer and not self._configuration.is_new(),
            self._overlay.version,
        )

    def _pass_ended(self, before: Result, repair: bool) -> None:
        result = self._passes.last
        self._counters.converged(result.seconds, bool(result.actions), not result.trouble)
        self._telling.ended(result, before, repair, self._passes.fighting)
        self._balancing.look()
        self._get_ready()
        self._wake()

    def _reweighted(self) -> None:
        """Another weight is as urgent as another state: what it is to mend grows meanwhile."""
        self._passes.ask(Reason.HEALTH, self._loop.time())
        self._wake()

    def _get_ready(self) -> None:
        """There has been a first pass, or there is nothing to do."""
        if not self._ready:
            self._ready = True
            self._equipment.manager.say(READY=1, STATUS=self._summary())

    # telling

    def _tell(self, event: str, **fields: Any) -> None:
        self._teller.tell(wording.record(event, self._equipment.wall(), **fields))

    def _announce(self, changes: list[Change]) -> None:
        wall = self._equipment.wall()
        for change in changes:
            self._counters.changed(change.link, change.before, change.after)
            self._teller.tell(wording.change_record(change, wall))
        if self._watch.held != self._held:
            self._held = self._watch.held
            reason = "no target answers on any link; silence moves nothing" if self._held else "a target answers again"
            self._tell("hold" if self._held else "hold_ended", reason=reason)

    def _summary(self) -> str:
        return status.summary(self._overlay.health().states, self._configuration.problem)

    def _commands(self) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
        return {
            "status": lambda _request: self.status(),
            "reload": self._asked_reload,
            "failback": self._asked_failback,
        }

    def _asked_reload(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        self.reload()
        if self._configuration.problem:
            raise RefusedError(self._configuration.problem)
        return {"done": True}

    def _asked_failback(self, request: Mapping[str, Any]) -> dict[str, Any]:
        problem = self._overlay.fail_back(str(request.get("link")))
        if problem:
            raise RefusedError(problem)
        self._wake()
        return {"done": True}

    def status(self) -> dict[str, Any]:
        """What the control socket and the metrics tell. `settled`: the router is as the states ask for."""
        now = self._loop.time()
        settled = self._passes.settled(now) and self._overlay.version == self._ordered and not self._waking
        drained = self._configuration.drained
        return {
            "links": status.links(self._watch.snapshot(now), self._ground.links, self._overlay, drained),
            "held": self._watch.held,
            "version": self._equipment.version,
            "started": self._started,
            "ready": self._ready,
            "problem": self._configuration.problem,
            "settled": settled,
            "converge": self._passes.status(),
            "counters": self._counters.dump(),
            "balance": self._balancing.status(),
        }

    def traffic(self) -> dict[str, Any]:
        """For the metrics; asked in a thread of its own."""
        settings = self._configuration.document.settings
        links = {name: (link.device, settings.mark(link.ident)) for name, link in self._ground.links.items()}
        return links_traffic(self._equipment.files, self._connections, links, settings.mark_mask)
