# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the table promises, whatever the facts are."""

from __future__ import annotations

from itertools import combinations

import pytest
from _mwan.health import STATES
from _mwan.watch.machine import TABLE, Fact, State, Transition, transition

FACTS = [fact for fact in Fact if fact]


def test_states_are_those_of_the_health_file() -> None:
    assert {state.value for state in State} == set(STATES) - {"drained"}


def test_every_state_but_unknown_is_entered_and_every_state_is_left() -> None:
    assert {row.after for row in TABLE} == set(State) - {State.UNKNOWN}
    assert {row.before for row in TABLE} == set(State)


@pytest.mark.parametrize("row", [row for row in TABLE if row.before.serves and not row.after.serves], ids=str)
def test_only_the_kernel_or_another_link_takes_one_out_of_service(row: Transition) -> None:
    assert row.facts & (Fact.BROKEN | Fact.DEAD | Fact.BACKED)


@pytest.mark.parametrize("row", [row for row in TABLE if row.after is State.DOWN], ids=str)
def test_only_breaking_or_dying_takes_a_link_down(row: Transition) -> None:
    assert row.facts in (Fact.BROKEN, Fact.DEAD)


def test_a_suspect_that_answers_is_back_whatever_else_holds() -> None:
    rest = [fact for fact in FACTS if fact not in (Fact.BROKEN, Fact.DEAD, Fact.SILENT, Fact.ANSWERS)]
    for size in range(len(rest) + 1):
        for more in combinations(rest, size):
            facts = Fact.ANSWERS
            for fact in more:
                facts |= fact
            row = transition(State.SUSPECT, facts)
            assert row
            assert row.after.serves


def test_no_row_is_hidden_by_an_earlier_one() -> None:
    for index, row in enumerate(TABLE):
        for earlier in TABLE[:index]:
            assert earlier.before is not row.before or earlier.facts not in row.facts, f"{earlier} hides {row}"
