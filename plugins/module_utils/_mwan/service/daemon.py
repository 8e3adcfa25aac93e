# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: what is heard goes to the watch, what that decides to the router, and everybody is told.

All of it happens in one event loop but for the passes over the router, which are made in a thread, one at a time.
Stopping changes nothing: the kernel forwards on its last state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import random
from typing import Any

from ..errors import KernelError
from ..events import Event, LinkEvent, NeighbourEvent, Overrun, OwnRouteEvent, OwnRuleEvent
from ..kernel import Facts, State
from ..monitor import Monitor
from ..ports import Router, RoutingPort
from ..resolve import ResolvedLink, resolve
from ..traffic import Connections, links_traffic
from ..watch.judge import Change, Watch
from ..watch.settings import ProbeSettings
from . import wording
from .agenda import Agenda, Reason
from .configuration import Configuration, last_health
from .control import Control, RefusedError
from .converging import Converging, Order, Result
from .counters import Counters
from .eventlog import EventLog
from .following import contradicts, readiness, watched, with_device
from .hooks import Hooks
from .journal import Journal
from .notify import Manager
from .overlay import Overlay
from .probing import Probing, Way
from .schedule import Schedule

# seconds; a turn of the loop that is later than this is no fault of any link
LAG = 0.25
# between looks at the files and the time of day
LOOK = 1.0
# between two readings of the kernel's facts
FACTS_GAP = 0.02
RESTING = ("suspect", "down")


@dataclass(frozen=True)
class Equipment:
    """What the process works with. `eyes` are for the loop alone, as `router` is for the passes."""

    router: Router
    eyes: RoutingPort
    journal: Journal
    manager: Manager
    version: str


class Daemon:
    """Begins with start(), after which everything follows from what is heard; ends with close()."""

    def __init__(self, equipment: Equipment, loop: asyncio.AbstractEventLoop) -> None:
        self._equipment, self._loop = equipment, loop
        self._router, self._journal = equipment.router, equipment.journal
        now = loop.time()
        self._configuration = Configuration(self._router.files)
        self._settings: Mapping[str, ProbeSettings] = {}
        self._facts = Facts()
        self._links: Mapping[str, ResolvedLink] = {}
        self._overlay = Overlay(last_health(self._router.files), now, time.time())
        self._watch = Watch({}, {}, now)
        self._counters = Counters()
        self._probing = Probing(self._watch, self._counters, self._heard, loop)
        self._schedule = Schedule(random)
        self._agenda = Agenda(now)
        self._converging = Converging(self._router)
        self._executor = ThreadPoolExecutor(1, "converge")
        self._events = EventLog()
        self._hooks = Hooks(self._hook_ended)
        self._control = Control(self._commands(), lambda: list(self._events.recent))
        self._monitor = Monitor(watched(self._configuration.document, {}), self._kernel_tells, loop)
        self._connections = Connections()
        self._started = time.time()
        self._alarm: asyncio.TimerHandle | None = None
        self._planned = now
        self._waking = self._looking = self._ready = self._closed = False
        self._looked = now - FACTS_GAP
        self._look_at = now
        self._signed = now
        # what the routes and rules were set to last; events that came during a pass wait for that
        self._state: State | None = None
        self._unjudged: list[Event] = []
        self._asked_version = -1
        self._steer = False
        self._work: asyncio.Task[None] | None = None
        self._result = Result()
        self._runs = self._changed = self._failed = 0
        self._held = False

    # life

    async def start(self) -> None:
        """Raises OSError and KernelError for what the process cannot do without."""
        self._events.load()
        self._monitor.start()
        self._configuration.load()
        if self._configuration.problem:
            self._tell(wording.record("reload_failed", time.time(), reason=self._configuration.problem))
        self._facts = self._equipment.eyes.facts()
        now = self._loop.time()
        self._watch = Watch(self._new_settings(), self._overlay.states, now)
        self._probing.watch = self._watch
        self._configure(now)
        self._look_at = now + LOOK
        await self._control.start()
        self._wake()

    async def close(self) -> None:
        """Let a pass that runs come to its end, and go."""
        self._equipment.manager.say(STOPPING=1)
        self._closed = True
        if self._alarm:
            self._alarm.cancel()
        self._probing.close()
        self._monitor.close()
        if self._work:
            await self._work
        self._executor.shutdown()
        await self._hooks.close()
        await self._control.close()

    # configuration

    def _new_settings(self) -> Mapping[str, ProbeSettings]:
        self._settings = self._configuration.document.probe_settings()
        return self._settings

    def _configure(self, now: float) -> None:
        """Follow the document: everything that is per link is so from here on."""
        document = self._configuration.document
        self._watch.configure(self._new_settings(), now)
        self._overlay.configure(document, now, time.time())
        labels = {
            name: [*(target.label for target in settings.targets), "gateway"]
            for name, settings in self._settings.items()
        }
        self._counters.configure(labels)
        self._follow(now)

    def reload(self) -> None:
        """Read the files again; a document that is no good is told of, and the former one stays in force."""
        manager, before = self._equipment.manager, self._configuration.document
        manager.say(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        drained, problem = self._configuration.drained, self._configuration.problem
        self._configuration.load()
        now = self._loop.time()
        if self._configuration.problem:
            self._counters.reloaded(ok=False)
            if self._configuration.problem != problem:
                self._tell(wording.record("reload_failed", time.time(), reason=self._configuration.problem))
        elif self._configuration.document != before or problem:
            self._counters.reloaded(ok=True)
            self._tell(wording.record("reload", time.time(), reason="the stored document is in force"))
            self._configure(now)
            self._agenda.ask(Reason.DOCUMENT, now)
        if self._configuration.drained != drained:
            self._drained(drained, now)
        manager.say(READY=1)
        self._wake()

    def _drained(self, before: Mapping[str, Any], now: float) -> None:
        after = self._configuration.drained
        for name in sorted(self._links.keys() & (before.keys() ^ after.keys())):
            state = self._overlay.entry(name).state
            words = ("drained", state) if name in before else (state, "drained")
            why = str(after.get(name, {}).get("why") or "by the operator")
            self._tell(wording.record("state", time.time(), link=name, before=words[0], after=words[1], reason=why))
        self._overlay.resolved(self._links, frozenset(after))
        self._agenda.ask(Reason.HEALTH, now)

    # the kernel

    def _kernel_tells(self, event: Event) -> None:
        now = self._loop.time()
        self._heard(now)
        if isinstance(event, NeighbourEvent):
            self._neighbour(event, now)
        elif isinstance(event, (OwnRouteEvent, OwnRuleEvent)):
            self._own(event, now)
        else:
            if isinstance(event, Overrun):
                self._counters.overrun()
                self._journal.warning("the kernel dropped notifications; everything is read anew")
            elif isinstance(event, LinkEvent):
                self._device(event, now)
            self._look_soon(now)

    def _device(self, event: LinkEvent, now: float) -> None:
        """Act on what a device lost before all facts are read: that takes milliseconds."""
        self._facts = with_device(self._facts, event)
        if not (event.present and event.up and event.carrier):
            self._follow(now)

    def _neighbour(self, event: NeighbourEvent, now: float) -> None:
        for name, link in self._links.items():
            if (link.device, link.gateway) == (event.device, event.address) and event.state == "failed":
                self._watch.negative(name, now, f"the kernel has no answer from gateway {event.address}")

    def _own(self, event: Event, now: float) -> None:
        if self._agenda.running:
            self._unjudged.append(event)
        elif self._state and contradicts(event, self._state):
            self._agenda.ask(Reason.FOREIGN, now)

    def _look_soon(self, now: float) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_at(max(now, self._looked + FACTS_GAP), self._look)

    def _look(self) -> None:
        self._looking, now = False, self._loop.time()
        if self._closed:
            return
        self._looked = now
        try:
            self._facts = self._equipment.eyes.facts()
        except KernelError as exc:
            self._journal.error(f"the kernel's facts cannot be read: {exc}")
            self._loop.call_later(LOOK, self._look_soon, now)
            return
        self._agenda.ask(Reason.KERNEL, now)
        self._follow(self._loop.time())

    def _follow(self, now: float) -> None:
        """Have everything fit the facts."""
        document = self._configuration.document
        self._links = resolve(document, self._facts)
        self._overlay.resolved(self._links, frozenset(self._configuration.drained))
        self._monitor.watch(watched(document, self._links))
        for name, link in self._links.items():
            self._watch.kernel(name, *readiness(link, self._facts), now)
        ways = {name: Way.of(link, self._facts, document.settings) for name, link in self._links.items()}
        self._probing.follow(ways, self._settings)
        self._schedule.keep(self._links)
        self._wake()

    # time

    def _heard(self, now: float) -> None:
        """The process was not late on its own account; otherwise nobody is blamed for that time."""
        late = now - self._planned
        if late > LAG:
            self._planned = now
            self._watch.lag(late, now)
            self._journal.warning(f"the process stood still for {late:.1f} s; no link is blamed for it")
        self._wake()

    def _wake(self) -> None:
        """Decide when everything that waits in sockets has been read: the turn after the next one."""
        if not self._waking and not self._closed:
            self._waking = True
            self._loop.call_soon(self._loop.call_soon, self._decide)

    def _ring(self) -> None:
        now = self._loop.time()
        self._heard(now)
        for link, target in self._schedule.take(now):
            self._probing.send(link, target, now)
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._every_second(now)

    def _every_second(self, now: float) -> None:
        if self._configuration.is_new():
            self.reload()
        watchdog = self._equipment.manager.watchdog
        if watchdog and now >= self._signed + watchdog - LOOK / 2:
            self._signed = now
            self._equipment.manager.say(WATCHDOG=1)

    def _decide(self) -> None:
        self._waking = False
        if self._closed:
            return
        now = self._loop.time()
        if self._watch.next_deadline(now) <= now:
            for change in self._watch.decide(now):
                self._changed_state(change, now)
            self._tell_hold()
        local = time.localtime()
        self._overlay.settle(now, 60 * local.tm_hour + local.tm_min)
        if self._overlay.version != self._asked_version:
            self._asked_version = self._overlay.version
            self._agenda.ask(Reason.HEALTH, now)
        self._pace(now)
        self._converge(now)
        self._arm(now)

    def _pace(self, now: float) -> None:
        for name in self._links:
            pace = self._watch.pace(name, now)
            self._schedule.follow(name, self._probing.targets(name, pace.gateway), pace, now)

    def _arm(self, now: float) -> None:
        if self._alarm:
            self._alarm.cancel()
        moments = (
            self._schedule.next(),
            self._watch.next_deadline(now),
            self._overlay.next_deadline(),
            self._agenda.due if self._configuration.known else self._look_at,
            self._look_at,
        )
        self._planned = max(now, min(moments))
        self._alarm = self._loop.call_at(self._planned, self._ring)

    # the router

    def _changed_state(self, change: Change, now: float) -> None:
        wall = time.time()
        self._overlay.change(change, now, wall)
        self._counters.changed(change.link, change.before, change.after)
        self._steer = self._steer or change.after in RESTING
        self._tell(wording.change_record(change, wall))

    def _tell_hold(self) -> None:
        if self._watch.held != self._held:
            self._held = self._watch.held
            reason = "no target answers on any link; silence moves nothing" if self._held else "targets answer again"
            self._tell(wording.record("held" if self._held else "hold_ended", time.time(), reason=reason))

    def _converge(self, now: float) -> None:
        if self._agenda.due <= now and self._configuration.known:
            self._agenda.begin(now)
            order = Order(
                self._overlay.dump(time.time()),
                self._overlay.health(),
                self._configuration.document,
                self._facts,
                self._steer,
            )
            self._steer = False
            self._work = self._loop.create_task(self._pass(order))

    async def _pass(self, order: Order) -> None:
        result = await self._loop.run_in_executor(self._executor, self._converging.run, order)
        now = self._loop.time()
        self._agenda.end(now, not result.trouble, bool(result.actions))
        self._count(result)
        self._state = result.state
        for event in self._unjudged:
            self._own(event, now)
        self._unjudged.clear()
        if not self._ready:
            self._ready = True
            self._equipment.manager.say(READY=1, STATUS=self._summary())
        self._wake()

    def _count(self, result: Result) -> None:
        self._runs += 1
        self._changed += bool(result.actions)
        self._failed += bool(result.trouble)
        self._counters.converged(result.seconds, bool(result.actions), not result.trouble)
        if result.trouble and result.trouble != self._result.trouble:
            self._tell(wording.record("converge_failed", time.time(), reason=result.trouble, duration=result.seconds))
        for warning in result.warnings:
            if warning not in self._result.warnings:
                self._journal.warning(warning)
        if result.actions:
            self._journal.log(
                wording.INFO,
                f"converged in {result.seconds * 1000:.0f} ms: {'; '.join(result.actions)}",
                {"actions": len(result.actions)},
            )
        self._result = result

    # telling

    def _tell(self, event: dict[str, Any]) -> None:
        """Everybody who wants to know; none of them holds anything up."""
        fields = {key: value for key, value in event.items() if key != "evidence"}
        self._journal.log(wording.level(event), wording.line(event), fields)
        try:
            self._events.add(event)
        except KernelError as exc:
            self._journal.error(str(exc))
        self._control.tell(event)
        self._hooks.add(event)
        if self._ready:
            self._equipment.manager.say(STATUS=self._summary())

    def _hook_ended(self, problem: str) -> None:
        self._counters.hook(not problem)
        if problem:
            self._journal.error(problem)

    def _summary(self) -> str:
        if self._configuration.problem:
            return f"The stored document cannot be used: {self._configuration.problem}"
        states = self._overlay.states.values()
        down = sum(state == "down" for state in states)
        return f"{len(states)} links, {down} of them down" if down else f"{len(states)} links, none down"

    def _commands(self) -> dict[str, Any]:
        return {"status": lambda _request: self.status(), "reload": self._reload, "failback": self._fail_back}

    def _reload(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        self.reload()
        if self._configuration.problem:
            raise RefusedError(self._configuration.problem)
        return {"done": True}

    def _fail_back(self, request: Mapping[str, Any]) -> dict[str, Any]:
        problem = self._overlay.fail_back(str(request.get("link")))
        if problem:
            raise RefusedError(problem)
        self._wake()
        return {"done": True}

    def status(self) -> dict[str, Any]:
        """What the control socket and the metrics tell."""
        now = self._loop.time()
        return {
            "links": {name: self._link_status(name, entry) for name, entry in self._watch.snapshot(now).items()},
            "held": self._watch.held,
            "version": self._equipment.version,
            "started": self._started,
            "ready": self._ready,
            "problem": self._configuration.problem,
            "pending": self._agenda.running or self._agenda.due <= now or self._overlay.version != self._asked_version,
            "converge": {
                "runs": self._runs,
                "changed": self._changed,
                "failed": self._failed,
                "last_seconds": self._result.seconds,
                "last_error": self._result.trouble or None,
                "running": self._agenda.running,
            },
            "counters": self._counters.dump(),
        }

    def traffic(self) -> dict[str, Any]:
        """For the metrics; asked in a thread of its own."""
        settings = self._configuration.document.settings
        links = {name: (link.device, settings.mark(link.ident)) for name, link in self._links.items()}
        return links_traffic(self._router.files, self._connections, links, settings.mark_mask)

    def _link_status(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        link, known = self._links[name], self._overlay.entry(name)
        state = self._overlay.health().state(name)
        return {
            **entry,
            "state": state,
            "probed": entry["state"],
            "reason": known.reason,
            "since_wall": known.since,
            "released": known.released,
            "drained": self._configuration.drained.get(name),
            "device": link.device,
            "address": link.address,
            "pending": link.pending,
        }
