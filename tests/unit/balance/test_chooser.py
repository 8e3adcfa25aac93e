# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Which link takes the next connection."""

from __future__ import annotations

from collections import Counter

from _mwan.balance.chooser import Candidate, choose
from hypothesis import given
from hypothesis import strategies as st


def links(*weights: int) -> list[Candidate]:
    return [Candidate(f"link{place}", (place + 1) << 8, weight) for place, weight in enumerate(weights)]


WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=6)


@given(WEIGHTS, st.data())
def test_no_other_link_would_have_fewer_for_its_weight(weights: list[int], data: st.DataObject) -> None:
    given_links = links(*weights)
    load = {link.mark: data.draw(st.integers(0, 10**6)) for link in given_links}
    chosen = given_links[choose(given_links, load, data.draw(st.integers(0, 100)))]
    for other in given_links:
        assert (load[chosen.mark] + 1) * other.weight <= (load[other.mark] + 1) * chosen.weight


@given(WEIGHTS, st.integers(0, 300))
def test_what_stays_is_spread_in_proportion(weights: list[int], number: int) -> None:
    """No link is ahead of another by more than the one connection that has to go somewhere."""
    given_links, load = links(*weights), Counter[int]()
    for turn in range(number):
        load[given_links[choose(given_links, load, turn)].mark] += 1
    assert load.total() == number
    for one in given_links:
        for other in given_links:
            assert load[one.mark] * other.weight <= (load[other.mark] + 1) * one.weight


@given(st.integers(1, 6), st.integers(0, 20), st.integers(0, 100))
def test_equals_take_turns(number: int, held: int, turn: int) -> None:
    """Connections that end at once come to all links, not to the first of them."""
    given_links = links(*[1] * number)
    load = {link.mark: held for link in given_links}
    chosen = [choose(given_links, load, turn + more) for more in range(number)]
    assert sorted(chosen) == list(range(number))


def test_among_equal_claims_the_one_with_fewest() -> None:
    """(3 + 1) / 4 is as much as (1 + 1) / 2."""
    assert choose(links(4, 2), {0x100: 3, 0x200: 1}) == 1


def test_a_link_that_lags_behind_gets_all_until_it_is_level() -> None:
    given_links, load = links(1, 1), {0x100: 40, 0x200: 0}
    for turn in range(40):
        assert choose(given_links, load, turn) == 1
        load[0x200] += 1
