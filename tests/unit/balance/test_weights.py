# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The weights that bring the counts to proportion."""

from __future__ import annotations

from collections import Counter
from random import Random

from _mwan.balance.chooser import Candidate
from _mwan.balance.weights import staying, weights
from hypothesis import given
from hypothesis import strategies as st

MARKS = [number << 8 for number in range(1, 7)]
WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=6)


def links(*given_weights: int) -> list[Candidate]:
    return [
        Candidate(f"link{place}", mark, weight)
        for place, (mark, weight) in enumerate(zip(MARKS, given_weights, strict=False))
    ]


def declared(candidates: list[Candidate]) -> dict[str, int]:
    return {link.name: link.weight for link in candidates}


@given(WEIGHTS, st.integers(0, 10**5), st.floats(0, 10**5))
def test_in_proportion_nothing_changes(given_weights: list[int], number: int, arrivals: float) -> None:
    found = links(*given_weights)
    assert weights(found, {link.mark: number * link.weight for link in found}, arrivals) == declared(found)


@given(st.lists(st.integers(10, 200), min_size=2, max_size=6), st.data())
def test_small_noise_changes_nothing(given_weights: list[int], data: st.DataObject) -> None:
    """Each link's need moves by less than a sixth."""
    found, arrivals = links(*given_weights), 10_000.0
    due = arrivals / sum(given_weights)
    noise = [data.draw(st.floats(-0.07, 0.07)) for _unused in found]
    counts = {link.mark: 100 * link.weight + part * due * link.weight for link, part in zip(found, noise, strict=True)}
    assert weights(found, counts, arrivals) == declared(found)


@given(WEIGHTS, st.data(), st.floats(0, 10**4))
def test_the_further_behind_the_more_it_gets(given_weights: list[int], data: st.DataObject, arrivals: float) -> None:
    found = links(*given_weights)
    counts = {link.mark: float(data.draw(st.integers(0, 10**4))) for link in found}
    set_to = weights(found, counts, arrivals)
    assert set_to.keys() == {link.name for link in found}
    assert all(1 <= weight <= 256 for weight in set_to.values())
    for one in found:
        for other in found:
            if counts[one.mark] / one.weight <= counts[other.mark] / other.weight:
                # as near as whole weights between 1 and 256 come to it
                assert (set_to[one.name] + 0.5) / one.weight >= (set_to[other.name] - 0.5) / other.weight - 0.5 or (
                    set_to[other.name] == 1
                )


def test_a_link_that_came_back_empty_gets_nearly_all_and_the_others_a_little() -> None:
    assert weights(links(1, 1), {MARKS[0]: 500.0}, 50) == {"link0": 1, "link1": 256}


def test_nothing_is_expected_nothing_changes() -> None:
    assert weights(links(3, 1), {}, 0) == {"link0": 3, "link1": 1}


def test_what_stays_is_reckoned_from_two_looks() -> None:
    before = {1: 0x100, 2: 0x100, 3: 0x200, 4: 0x200}
    counts, arrivals = staying(before, {1: 0x100, 3: 0x200, 5: 0x100})
    assert (counts, arrivals) == ({0x100: 1.0, 0x200: 0.5}, 1.0)
    assert staying({}, {1: 0x100}) == ({0x100: 1.0}, 1.0)


def test_counts_come_to_proportion_and_stay_closer_than_by_chance() -> None:
    """Connections of very different lifetimes, most of them longer than an interval."""
    assert deviation(follow=True, life=40) < 0.6 * deviation(follow=False, life=40)


def deviation(follow: bool, life: float) -> float:
    """By which share of all connections one link is away from its due, on average."""
    random, found = Random(7), links(3, 1)
    alive: dict[int, tuple[int, float]] = {}
    before: dict[int, int] = {}
    shares, total, ident = declared(found), 0.0, 0
    for second in range(600):
        for _unused in range(40):
            ident += 1
            link = random.choices(found, [shares[link.name] for link in found])[0]
            alive[ident] = link.mark, second + life * random.paretovariate(1.2)
        alive = {key: value for key, value in alive.items() if value[1] > second}
        if second % 5 == 0:
            now = {key: mark for key, (mark, _end) in alive.items()}
            shares = weights(found, *staying(before, now)) if follow else shares
            before = now
        if second >= 100:
            counts = Counter(mark for mark, _end in alive.values())
            due = len(alive) * 3 / 4
            total += abs(counts[MARKS[0]] - due) / len(alive)
    return total / 500
