# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Hours of trouble in seconds: whatever happens again and again, nothing in the prober grows."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count
from random import Random
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _mwan import store
from _mwan.resolve import resolve
from _mwan.service.agenda import Agenda, Reason
from _mwan.service.counters import Counters
from _mwan.service.overlay import Overlay
from _mwan.service.schedule import Schedule
from _mwan.service.wording import change_record
from _mwan.watch.judge import Watch
from unit.model_kernel import ModelRouter
from unit.service.world import TARGETS, World
from unit.watch.simulator import Path
from unit.worlds import LAN, apply, facts

PROBE: dict[str, Any] = {"targets": list(TARGETS), "up_after": 1, "damping": {"longest": 1}}
LINKS = [
    {"name": "isp_a", "device": "wan1"},
    {"name": "isp_b", "device": "wan2", "gateway": "6.6.6.1"},
    {"name": "line", "device": "ppp0"},
]
# virtual seconds of one round of everything that can go wrong
ROUND = 20.0
# until what is bounded is full
WARM_UP, MORE = 6, 8
EVENTS = 50


def wish(*, whole: bool, gateway: str = "5.5.5.1") -> dict[str, Any]:
    links = [{**LINKS[0], "gateway": gateway}, *LINKS[1 : 3 if whole else 2]]
    members = [{"link": link["name"], "tier": tier} for link, tier in zip(links, (1, 1, 2), strict=False)]
    failback = {"tcp": "reset", "other": "reroute", "after": 1}
    return {
        "links": links,
        "policies": [{"name": "balanced", "members": members, "failback": failback}],
        "default_policy": "balanced",
        "snat": [{"link": link["name"], "source": LAN} for link in links],
        "rp_filter": {"mode": "loose"},
        "probe": PROBE,
    }


def go_through_everything(shown: World, number: int) -> None:
    """Each round begins and ends with all well."""
    start = shown.loop.time()
    shown.paths["isp_a"].dark[:] = [(start, start + 4)]
    shown.device("wan2", carrier=False)
    shown.run(0.5)
    shown.device("wan2")
    shown.run(5)
    shown.device("ppp0", gone=True)
    shown.run(0.5)
    shown.device("ppp0")
    addresses = ["5.5.5.5", "5.5.5.77"]
    shown.address(*(addresses if number % 2 else reversed(addresses)))
    store.save_drained(shown.router.files, {"isp_b": {"since": "2026-01-01", "why": f"for the time {number}"}})
    shown.run(2)
    store.save_drained(shown.router.files, {})
    shown.delete_rule(next(iter(shown.router.routing.rules())))
    shown.run(2)
    shown.declare(wish(whole=False, gateway="5.5.5.2" if number % 3 else "5.5.5.1"))
    shown.run(2)
    shown.declare(wish(whole=True, gateway="5.5.5.2" if number % 3 else "5.5.5.1"))
    shown.router.files.texts["aside"] = shown.router.files.texts[store.DOCUMENT]
    shown.router.files.texts[store.DOCUMENT] = "{"
    shown.run(1.5)
    shown.router.files.texts[store.DOCUMENT] = shown.router.files.texts.pop("aside")
    shown.loop.selector.now += 1.0
    shown.run(start + ROUND - shown.loop.time())
    tidy(shown)


def tidy(shown: World) -> None:
    """What the world remembers for tests is none of the prober's memory."""
    for told in (shown.health, shown.orders, shown.said, shown.probed, shown.router.routing.flushed):
        told.clear()


OTHERS = (ModuleType, type, FunctionType, BuiltinFunctionType, CodeType, FrameType)


def things(root: object, without: Iterable[object]) -> int:
    """How many things are in the containers that can be reached from there."""
    seen = {id(item) for item in without}
    waiting, count = deque([root]), 0
    while waiting:
        item = waiting.popleft()
        if id(item) in seen or isinstance(item, OTHERS):
            continue
        seen.add(id(item))
        count += len(item) if isinstance(item, (list, dict, set, frozenset, deque, tuple)) else 0
        waiting.extend(gc.get_referents(item))
    return count


def taken() -> int:
    """Octets held by what the library's lines made since tracing began."""
    gc.collect()
    ours = tracemalloc.Filter(True, "*/_mwan/*")
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)


def figures(shown: World) -> dict[str, int]:
    world = (shown, vars(shown), shown.router, shown.loop)
    return {
        "octets": taken(),
        "things": things(shown.daemon, world),
        "timers": len(shown.loop._scheduled),  # type: ignore[attr-defined]
        "probes": shown.open_probes,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """What is larger than chance explains."""
    room = {"octets": 1.5, "things": 1.25, "timers": 3.0}
    return [f"{key}: {size}, then {after[key]}" for key, size in before.items() if after[key] > size * room.get(key, 1)]


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_hours_of_all_kinds_of_trouble_leave_nothing_behind() -> None:
    paths = {str(link["name"]): Path(rtt=0.02, dark=[]) for link in LINKS}
    with World(wish(whole=True), paths) as shown:
        shown.events.recent = deque(maxlen=EVENTS)
        shown.start()
        for number in range(WARM_UP):
            go_through_everything(shown, number)
        before, counted = figures(shown), shown.status()["converge"]
        for number in range(MORE):
            go_through_everything(shown, number)
        assert grown(before, figures(shown)) == []
        assert shown.status()["converge"]["changed"] - counted["changed"] > 5 * MORE
        assert shown.status()["converge"]["failed"] == 0
        assert set(shown.states().values()) == {"up"}
        assert shown.drift() == []


class Parts:
    """What the prober keeps from one moment to the next, without a router."""

    def __init__(self) -> None:
        self.loop_time = 0.0
        self.document = apply(ModelRouter(facts()), wish(whole=True)).document
        settings = self.document.probe_settings()
        self.watch = Watch(settings, {}, 0.0)
        self.overlay = Overlay(None, 0.0, 0.0)
        self.overlay.configure(self.document, 0.0, 0.0)
        self.overlay.resolved(resolve(self.document, facts()), frozenset())
        self.counters, self.agenda, self.schedule = Counters(), Agenda(0.0), Schedule(Random(1).random)
        self.counters.configure({name: [*TARGETS, "gateway"] for name in settings})
        self.told: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self.seq = count()
        self.changes = 0

    def pass_time(self, seconds: float, dead: frozenset[str]) -> None:
        """Probes of links that are dead are not answered; everything decides as the daemon has it do."""
        end = self.loop_time + seconds
        while self.loop_time < end:
            due = min(self.watch.next_deadline(self.loop_time), self.schedule.next(), end)
            now = self.loop_time = max(due, self.loop_time + 0.001)
            for link, target in self.schedule.take(now):
                seq = next(self.seq)
                self.watch.sent(link, target, seq, now)
                if link not in dead:
                    self.watch.replied(link, target, seq, now)
            self.decide(now)

    def decide(self, now: float) -> None:
        for change in self.watch.decide(now):
            self.changes += 1
            self.overlay.change(change, now, now)
            self.counters.changed(change.link, change.before, change.after)
            self.told.append(change_record(change, now))
            self.agenda.ask(Reason.HEALTH, now)
        self.overlay.settle(now, int(now) % 1440)
        if self.agenda.due <= now:
            self.agenda.begin(now)
            self.agenda.end(now, ok=True, changed=True)
            self.counters.converged(0.01, changed=True, ok=True)
        for link in self.overlay.states:
            pace = self.watch.pace(link, now)
            self.schedule.follow(link, range(-1 if pace.gateway else 0, len(TARGETS)), pace, now)


def test_thousands_of_changes_leave_nothing_behind() -> None:
    parts = Parts()
    sizes = []
    for changes in (500, 3000):
        while parts.changes < changes:
            parts.pass_time(3.0, frozenset({("isp_a", "isp_b", "line")[parts.changes % 3]}))
            parts.watch.kernel("isp_b", False, "no carrier", parts.loop_time)
            parts.pass_time(0.1, frozenset())
            parts.watch.kernel("isp_b", True, "", parts.loop_time)
            parts.watch.negative("isp_a", parts.loop_time, "Network is unreachable")
            parts.watch.lag(0.5, parts.loop_time)
            parts.agenda.ask(Reason.FOREIGN, parts.loop_time)
            parts.pass_time(4.0, frozenset())
        sizes.append({"things": things(parts, ())})
    assert grown(*sizes) == []
