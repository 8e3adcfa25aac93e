# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""When probes are sent: spread, absolute, and never in a rush after a stall."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from _mwan.service.schedule import JITTER, NEVER, Schedule
from _mwan.watch.link import GATEWAY, Pace
from hypothesis import given
from hypothesis import strategies as st

USUAL, BURST = Pace(0.5, False, False), Pace(0.125, True, True)


def schedule(seed: int = 0) -> Schedule:
    return Schedule(Random(seed).random)


def sent(plan: Schedule, until: float, late: float = 0.0) -> list[tuple[float, str, int]]:
    """What is sent up to a time by a process that wakes up `late` seconds after each moment."""
    found = []
    while plan.next() + late <= until:
        now = plan.next() + late
        found += [(now, link, target) for link, target in plan.take(now)]
    return found


@given(st.integers(0, 9), st.floats(0, 0.3))
def test_each_target_is_asked_once_in_every_interval(seed: int, late: float) -> None:
    plan = schedule(seed)
    plan.follow("a", range(3), USUAL, 0.0)
    moments: dict[int, list[float]] = {}
    for now, _link, target in sent(plan, 100.0, late):
        moments.setdefault(target, []).append(now)
    for times in moments.values():
        assert len(times) in (199, 200)
        gaps = [after - before for before, after in pairwise(times)]
        assert min(gaps) > 0.5 * (1 - JITTER) - late - 1e-9
        assert max(gaps) - min(gaps) > 0.5 * JITTER, "others with the same interval must not stay in step"
        assert max(gaps) < 0.5 * (1 + JITTER) + late + 1e-9


def test_the_targets_of_a_link_are_spread_and_links_begin_at_different_moments() -> None:
    plan = schedule()
    for number in range(100):
        plan.follow(str(number), range(3), USUAL, 0.0)
    moments = [now for now, _link, _target in sent(plan, 10.0)]
    crowds = Counter(round(now, 2) for now in moments)
    assert max(crowds.values()) < 20, "of 600 a second, in 10 ms"
    first = sorted(now for now, link, _target in sent(_one(), 0.7) if link == "a")
    assert all(0.1 < after - before < 0.25 for before, after in pairwise(first))


def _one() -> Schedule:
    plan = schedule()
    plan.follow("a", range(3), USUAL, 0.0)
    return plan


@given(st.floats(0.0, 30.0), st.floats(1.0, 20.0))
def test_what_a_stall_missed_is_not_made_up_for(moment: float, stall: float) -> None:
    plan = _one()
    sent(plan, moment)
    awake = moment + stall
    assert plan.take(awake) == []
    assert plan.next() > awake
    assert 1 <= len(sent(plan, awake + 0.5 * (1 + JITTER))) <= 6


def test_a_burst_begins_at_once_and_asks_the_gateway_too() -> None:
    plan = _one()
    sent(plan, 5.0)
    plan.follow("a", (0, 1, 2, GATEWAY), BURST, 5.0)
    first = sent(plan, 5.2)
    assert first[0][0] - 5.0 <= 0.125 * JITTER
    assert {target for _now, _link, target in first} == {0, 1, 2, GATEWAY}
    plan.follow("a", range(3), USUAL, 6.0)
    assert {target for _now, _link, target in sent(plan, 7.0)} == {0, 1, 2}


def test_what_stays_goes_on_undisturbed() -> None:
    plan, other = _one(), _one()
    for step in range(40):
        plan.follow("a", range(3), USUAL, step / 8)
        assert sent(plan, step / 8) == sent(other, step / 8)


def test_dropped_links_are_asked_nothing() -> None:
    plan = schedule()
    for link in ("a", "b", "c"):
        plan.follow(link, range(2), USUAL, 0.0)
    plan.drop("a")
    plan.drop("never seen")
    plan.keep(("b",))
    assert {link for _now, link, _target in sent(plan, 2.0)} == {"b"}
    plan.keep(())
    assert plan.next() == NEVER
    plan.follow("b", (), USUAL, 3.0)
    assert plan.next() == NEVER
