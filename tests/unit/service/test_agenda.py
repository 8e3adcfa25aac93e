# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""When the router is converged: what waits for nothing, and what must not happen too often."""

from __future__ import annotations

import pytest
from _mwan.service.agenda import CHECK, GAP, LONGEST_REPAIR, LONGEST_RETRY, NEVER, PEACE, REPAIR, Agenda, Reason
from hypothesis import given
from hypothesis import strategies as st


def quiet(now: float = 0.0) -> Agenda:
    """An agenda after its first run."""
    agenda = Agenda(now)
    agenda.begin(now)
    agenda.end(now, ok=True, changed=True)
    return agenda


def test_it_begins_with_a_run_and_looks_again_each_minute() -> None:
    assert Agenda(5.0).due == 5.0
    agenda = quiet(5.0)
    assert (agenda.due, agenda.asked) == (5.0 + CHECK, False)


def test_a_links_state_waits_for_nothing_but_the_run_that_lasts() -> None:
    agenda = quiet()
    agenda.ask(Reason.HEALTH, 1.0)
    assert agenda.due == 1.0
    agenda.begin(1.0)
    agenda.ask(Reason.HEALTH, 1.01)
    assert (agenda.due, agenda.asked) == (NEVER, True)
    agenda.end(1.05, ok=True, changed=True)
    assert agenda.due == 1.01
    agenda.begin(1.05)
    agenda.end(1.1, ok=False, changed=False)
    agenda.ask(Reason.HEALTH, 1.11)
    assert agenda.due == 1.11, "also after a failure"


def test_the_kernels_facts_take_turns() -> None:
    agenda = quiet()
    agenda.ask(Reason.KERNEL, 10.0)
    assert agenda.due == 10.0
    agenda.begin(10.0)
    agenda.ask(Reason.KERNEL, 10.01)
    agenda.end(10.05, ok=True, changed=True)
    assert agenda.due == 10.0 + GAP


def test_what_others_keep_doing_beside_us_takes_turns_too() -> None:
    """A routing daemon that puts thousands of its own routes into a table of ours needs no repair, and costs little."""
    agenda, runs = quiet(), 0
    for step in range(1000):
        now = 10.0 + step / 100
        agenda.ask(Reason.FOREIGN, now)
        if agenda.due <= now:
            agenda.begin(now)
            agenda.end(now, ok=True, changed=False)
            runs += 1
    assert 40 <= runs <= 51


def test_a_failure_is_tried_again_more_and_more_slowly() -> None:
    agenda, now, waits = quiet(), 0.0, []
    for _time in range(10):
        agenda.begin(now)
        agenda.end(now, ok=False, changed=False)
        waits.append(agenda.due - now)
        now = agenda.due
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == min(LONGEST_RETRY, CHECK)
    agenda.begin(now)
    agenda.end(now, ok=True, changed=True)
    agenda.begin(now)
    agenda.end(now, ok=False, changed=False)
    assert agenda.due == now + 1


def fight(agenda: Agenda, times: int, now: float) -> tuple[list[float], float]:
    """Somebody undoes each repair at once; how long each repair waited, and when it ended."""
    waits = []
    for _time in range(times):
        agenda.ask(Reason.FOREIGN, now)
        waits.append(agenda.due - now)
        now = agenda.due
        agenda.begin(now)
        assert agenda.repairing
        agenda.end(now, ok=True, changed=True)
    return waits, now


def test_who_keeps_undoing_repairs_is_repaired_more_and_more_slowly() -> None:
    agenda = quiet(100.0)
    waits, now = fight(agenda, 12, 101.0)
    assert waits[0] == 0.0
    assert waits[1] == pytest.approx(REPAIR)
    assert waits[-1] == LONGEST_REPAIR
    assert waits == pytest.approx(sorted(waits))
    assert agenda.fighting
    agenda.ask(Reason.HEALTH, now)
    assert agenda.due == now, "what matters goes on at full speed"
    agenda.begin(now)
    agenda.end(now, ok=True, changed=True)
    waits, _now = fight(agenda, 1, now + PEACE)
    assert waits == [0.0]
    assert not agenda.fighting


def test_a_repair_that_was_none_provokes_no_patience() -> None:
    agenda = quiet()
    for now in (10.0, 10.5, 11.0):
        agenda.ask(Reason.FOREIGN, now)
        assert agenda.due == now
        agenda.begin(now)
        agenda.end(now, ok=True, changed=False)


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from([*Reason, "end ok", "end failed"])), max_size=60))
def test_nothing_that_was_asked_is_forgotten(steps: list[tuple[float, Reason | str]]) -> None:
    agenda, now, served = Agenda(0.0), 0.0, True
    for passed, what in steps:
        now += passed
        if isinstance(what, Reason):
            agenda.ask(what, now)
            served = False
        elif agenda.running:
            agenda.end(now, ok=what == "end ok", changed=True)
        if agenda.due <= now:
            agenda.begin(now)
            served = True
    if agenda.running:
        agenda.end(now, ok=True, changed=False)
    assert served or agenda.due <= now + LONGEST_REPAIR
    assert agenda.due <= now + CHECK
