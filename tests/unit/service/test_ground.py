# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the kernel's messages make the prober do: act at once, read the facts anew, or leave it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from _mwan.document import Document
from _mwan.errors import KernelError
from _mwan.events import (
    AddressEvent,
    DefaultRouteEvent,
    Event,
    LinkEvent,
    NeighbourEvent,
    Overrun,
    OwnRuleEvent,
    Watched,
)
from _mwan.kernel import Facts, IpRule, Route
from _mwan.service.ground import GAP, RETRY, Ground, RulesetTouched
from unit.service.world import VirtualLoop
from unit.worlds import facts

DOCUMENT = Document.parse(
    {
        "links": [
            {"name": "isp_a", "device": "wan1", "gateway": "5.5.5.1"},
            *({"name": f"r{n}", "device": "seg0", "gateway": f"192.168.100.{n}"} for n in (1, 3)),
        ]
    }
)


class Bench:
    """A ground whose kernel says what a test wants; `told` is what it passes on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.told, self.watched = loop, list[tuple[Any, ...]](), list[Watched]()
        self.kernel: Facts | KernelError = facts()
        self.ground = Ground(self, self._open, self, loop)  # type: ignore[arg-type]
        self.ground.start()
        self.ground.configure(DOCUMENT)

    def _open(self, tell: Any) -> Bench:
        self.tell = tell
        return self

    # the monitor

    def start(self) -> None:
        self.told.append(("started",))

    def watch(self, watched: Watched) -> None:
        self.watched.append(watched)

    def close(self) -> None:
        self.told.append(("closed",))

    # the eyes

    def facts(self) -> Facts:
        self.told.append(("looked", self.loop.time()))
        if isinstance(self.kernel, KernelError):
            raise self.kernel
        return self.kernel

    # the listener

    def heard(self, now: float) -> None:
        assert now == self.loop.time()

    def ground_moved(self, _now: float, looked: bool) -> None:
        self.told.append(("moved", looked))

    def gateway_failed(self, link: str, _why: str, _now: float) -> None:
        self.told.append(("failed", link))

    def own_changed(self, event: Event, _now: float) -> None:
        self.told.append(("own", event))

    def ruleset_touched(self, _now: float) -> None:
        self.told.append(("ruleset",))

    def overrun(self) -> None:
        self.told.append(("overrun",))

    def blind(self, problem: KernelError) -> None:
        self.told.append(("blind", problem.subject))

    def after(self, *events: Any, seconds: float = 0.0) -> list[tuple[Any, ...]]:
        """What is passed on until so long after these events."""
        self.told.clear()
        for event in events:
            self.tell(event)
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()
        return list(self.told)


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = VirtualLoop()
    yield Bench(loop)
    loop.close()


def test_events_are_told_before_the_facts_are_read_first(bench: Bench) -> None:
    assert bench.told == [("started",), ("looked", 0.0)]
    assert bench.watched[-1].gateways == {("wan1", "5.5.5.1"), ("seg0", "192.168.100.1"), ("seg0", "192.168.100.3")}


def test_a_loss_is_acted_on_before_the_facts_are_read(bench: Bench) -> None:
    told = bench.after(LinkEvent("wan1", True, True, False), seconds=GAP)
    assert told == [("moved", False), ("looked", GAP), ("moved", True)]
    bench.after(seconds=1.0)
    assert bench.after(LinkEvent("wan1", True, True, True)) == []
    assert bench.after(seconds=2 * GAP)[0][0] == "looked"


@pytest.mark.parametrize(
    "event",
    [AddressEvent("wan1", "5.5.5.5", False), DefaultRouteEvent("wan1", Route(254), True), Overrun()],
)
def test_everything_else_is_looked_at_at_once_and_together(bench: Bench, event: Event) -> None:
    bench.after(seconds=1.0)
    told = bench.after(event, event, event)
    assert [what[0] for what in told if what[0] != "overrun"] == ["looked", "moved"]
    assert ("overrun",) in told or not isinstance(event, Overrun)
    again = bench.after(event, seconds=1.0)
    looked = [what[1] for what in told + again if what[0] == "looked"]
    assert looked[1] - looked[0] >= GAP


def test_a_gateway_that_fails_is_told_by_its_link(bench: Bench) -> None:
    assert bench.after(NeighbourEvent("wan1", "5.5.5.1", "failed"), seconds=1) == [("failed", "isp_a")]
    assert bench.after(NeighbourEvent("wan1", "5.5.5.9", "failed"), seconds=1) == []
    assert bench.after(NeighbourEvent("wan1", "5.5.5.1", "reachable", "02:00:00:00:00:09"), seconds=1) == []


def test_a_gateway_with_another_address_is_looked_at_where_that_matters(bench: Bench) -> None:
    assert bench.after(NeighbourEvent("seg0", "192.168.100.1", "reachable", "02:00:00:00:00:01"), seconds=1) == []
    told = bench.after(NeighbourEvent("seg0", "192.168.100.1", "reachable", "02:00:00:00:00:09"), seconds=1)
    assert [what[0] for what in told] == ["looked", "moved"]


def test_what_is_ours_is_passed_on(bench: Bench) -> None:
    event = OwnRuleEvent(IpRule(1000, 254), False)
    assert bench.after(event, RulesetTouched(), seconds=1) == [("own", event), ("ruleset",)]


def test_facts_that_cannot_be_read_are_read_soon(bench: Bench) -> None:
    bench.kernel = KernelError("list", "devices", "no")
    bench.after(seconds=1)
    told = bench.after(AddressEvent("wan1", "5.5.5.5", False), seconds=RETRY / 2)
    assert [what[0] for what in told] == ["looked", "blind"]
    bench.kernel = facts(wan1=None)
    told = bench.after(seconds=RETRY)
    assert [what[0] for what in told] == ["looked", "moved"]
    assert bench.ground.links["isp_a"].pending == "device wan1 does not exist"


def test_nothing_is_looked_at_after_the_end(bench: Bench) -> None:
    bench.tell(AddressEvent("wan1", "5.5.5.5", False))
    bench.ground.close()
    assert bench.after(seconds=5) == []


def test_the_kernel_is_asked_to_tell_of_others_only_when_they_are_others(bench: Bench) -> None:
    before = len(bench.watched)
    bench.after(LinkEvent("wan1", True, True, False), seconds=1)
    assert len(bench.watched) == before
    bench.ground.configure(Document.parse({"links": [{"name": "line", "device": "ppp0"}]}))
    assert bench.watched[-1].devices == {"ppp0"}
