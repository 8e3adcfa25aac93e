# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""One pass at a time, and who is taken for the author of a change that the kernel tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from _mwan.document import Document
from _mwan.events import OwnRuleEvent
from _mwan.health import Health
from _mwan.kernel import Facts, IpRule, State
from _mwan.service.agenda import NEVER, Reason
from _mwan.service.converging import Order, Result
from _mwan.service.passes import Passes
from unit.service.world import VirtualLoop

RULE = IpRule(1000, 254)
SET = State(rules=frozenset({RULE}))
ORDER = Order({}, Health(), Document(), Facts(), steer=False)


class Bench:
    """Passes whose work is done by hand."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.works: list[asyncio.Future[Result]] = []
        self.ended: list[tuple[Result, bool]] = []
        self.passes = Passes(self._perform, lambda before, repair: self.ended.append((before, repair)), loop)

    def _perform(self, _order: Order) -> asyncio.Future[Result]:
        self.works.append(self.loop.create_future())
        return self.works[-1]

    def begin(self) -> None:
        self.passes.begin(ORDER, self.loop.time())

    def end(self, result: Result) -> None:
        self.works[-1].set_result(result)
        self.turns(4)

    def turns(self, number: int) -> None:
        for _turn in range(number):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = VirtualLoop()
    made = Bench(loop)
    made.begin()
    made.end(Result(state=SET))
    yield made
    loop.close()


def test_others_are_told_from_us_by_what_was_set(bench: Bench) -> None:
    bench.passes.own_changed(OwnRuleEvent(RULE, True), 0.0)
    assert bench.passes.settled(0.0)
    bench.passes.own_changed(OwnRuleEvent(RULE, False), 0.0)
    assert not bench.passes.settled(0.0)


def test_what_comes_during_a_pass_is_judged_by_what_it_set(bench: Bench) -> None:
    other = IpRule(1300, 254)
    for rules, due in (({RULE, other}, False), ({RULE}, True)):
        bench.begin()
        bench.passes.own_changed(OwnRuleEvent(other, True), 0.0)
        assert bench.passes.due == NEVER
        bench.end(Result(state=State(rules=frozenset(rules))))
        assert bench.passes.settled(0.0) is not due


def test_what_came_before_the_end_is_read_before_it_is_over(bench: Bench) -> None:
    bench.begin()
    bench.works[-1].set_result(Result(state=SET))
    bench.turns(1)
    assert bench.passes.running, "sockets are read in the next turn"
    bench.passes.ruleset_touched(0.0)
    bench.turns(3)
    assert not bench.passes.running
    assert not bench.passes.settled(0.0)


@pytest.mark.parametrize("loaded", [True, False])
def test_rules_that_a_pass_loads_are_its_own(bench: Bench, loaded: bool) -> None:
    bench.begin()
    bench.passes.ruleset_touched(0.0)
    bench.end(Result(state=SET, loaded=loaded))
    assert bench.passes.settled(0.0) is loaded
    bench.begin()
    bench.end(Result(state=SET))
    assert bench.passes.settled(0.0), "and of no later one"
    bench.passes.ruleset_touched(0.0)
    assert not bench.passes.settled(0.0)


def test_a_pass_that_failed_leaves_nothing_to_compare_with(bench: Bench) -> None:
    bench.begin()
    bench.end(Result(trouble="no"))
    due = bench.passes.due
    bench.passes.own_changed(OwnRuleEvent(RULE, False), 0.0)
    assert bench.passes.due == due


def test_who_asked_is_told_what_it_came_to(bench: Bench) -> None:
    bench.passes.ask(Reason.FOREIGN, 0.0)
    bench.begin()
    bench.end(Result(["something"], seconds=0.5, state=SET))
    assert bench.ended[-1] == (Result(state=SET), True)
    status = bench.passes.status()
    assert (status["runs"], status["changed"], status["failed"], status["last_seconds"]) == (2, 1, 0, 0.5)
    bench.begin()
    bench.end(Result(trouble="no"))
    assert (bench.passes.status()["failed"], bench.passes.status()["last_error"]) == (1, "no")


def test_the_end_waits_for_the_pass_that_runs(bench: Bench) -> None:
    bench.begin()
    bench.loop.call_later(3.0, bench.works[-1].set_result, Result())
    bench.loop.run_until_complete(bench.passes.close())
    assert bench.loop.time() == 3.0


def test_how_long_a_pass_lasts_is_told(bench: Bench) -> None:
    assert bench.passes.status()["running_for"] is None
    bench.begin()
    bench.loop.call_later(25, bench.loop.stop)
    bench.loop.run_forever()
    assert bench.passes.status()["running_for"] == pytest.approx(25, abs=0.1)
