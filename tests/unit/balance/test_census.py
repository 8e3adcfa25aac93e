# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How many connections each link has, whatever the order in which the kernel tells of them."""

from __future__ import annotations

from collections import Counter

from _mwan.balance.census import ENDED, LISTED, NEW, PENDING, UPDATE, Census, Tracked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

MASK = 0x3F00
A, B = 0x100, 0x200


def load(census: Census) -> dict[int, int]:
    return {mark: number for mark, number in census.load.items() if number}


def new(ident: int, mark: int | None = A, flow: bytes = b"", open: bool | None = True) -> Tracked:  # noqa: A002
    return Tracked(NEW, ident, mark, open, flow)


def test_tcp_counts_until_it_closes_and_others_until_they_are_forgotten() -> None:
    census = Census(MASK)
    census.tell(new(1))
    census.tell(new(2))
    census.tell(Tracked(UPDATE, 1, A, None))
    assert load(census) == {A: 2}
    census.tell(Tracked(UPDATE, 1, A, False))
    assert load(census) == {A: 1}
    census.tell(Tracked(ENDED, 1, None, False))
    assert load(census) == {A: 1}
    census.tell(Tracked(ENDED, 2, None, False))
    assert load(census) == {}


def test_only_our_bits_name_the_link_and_no_mark_counts_nothing() -> None:
    census = Census(MASK)
    census.tell(new(1, 0x80000000 | A | 0x4000))
    census.tell(new(2, 0x4000))
    census.tell(new(3, None))
    assert load(census) == {A: 1}


def test_a_mark_that_comes_later_or_changes() -> None:
    """As that of a connection which was there before the rules."""
    census = Census(MASK)
    census.tell(new(1, None))
    census.tell(Tracked(UPDATE, 1, A, True))
    assert load(census) == {A: 1}
    census.tell(Tracked(UPDATE, 1, B, None))
    assert load(census) == {B: 1}
    census.tell(Tracked(UPDATE, 1, 0, None))
    assert (load(census), census.open) == ({}, 0)


def test_decision_counts_until_it_is_heard_of_or_for_a_moment() -> None:
    census = Census(MASK)
    census.decide(b"heard of", A, 0.0)
    census.decide(b"lost", A, 0.1)
    assert load(census) == {A: 2}
    census.tell(new(1, A, b"heard of"))
    assert load(census) == {A: 2}
    census.forget(PENDING)
    assert load(census) == {A: 2}
    census.forget(0.1 + PENDING)
    assert load(census) == {A: 1}


def test_what_else_of_a_flow_was_on_its_way_goes_by_the_same_link() -> None:
    census = Census(MASK)
    assert census.decided(b"flow", 0.0) is None
    census.decide(b"flow", B, 0.0)
    census.tell(new(1, B, b"flow"))
    assert census.decided(b"flow", 0.5) == B
    assert census.decided(b"other", 0.5) is None
    assert census.decided(b"flow", PENDING) is None
    assert load(census) == {B: 1}


def test_flow_that_is_decided_again_counts_once() -> None:
    """Its link had ceased to serve."""
    census = Census(MASK)
    census.decide(b"flow", A, 0.0)
    census.decide(b"flow", B, 0.1)
    assert load(census) == {B: 1}


def test_list_finds_what_began_before_and_what_ended_unheard() -> None:
    census = Census(MASK)
    census.tell(new(1))
    census.tell(new(2))
    census.begin_list()
    census.tell(Tracked(LISTED, 2, A, True))
    census.tell(Tracked(LISTED, 3, B, True))
    census.tell(Tracked(LISTED, 4, B, False))
    census.tell(new(5))
    assert load(census) == {A: 3, B: 1}
    census.end_list()
    assert load(census) == {A: 2, B: 1}
    assert census.unheard == 1
    census.tell(Tracked(UPDATE, 3, B, None))
    assert census.unheard == 0


def test_list_does_not_bring_back_what_ended_meanwhile() -> None:
    census = Census(MASK)
    census.tell(new(1))
    census.begin_list()
    census.tell(Tracked(ENDED, 1, None, False))
    census.tell(Tracked(UPDATE, 2, A, False))
    census.tell(Tracked(LISTED, 1, A, True))
    census.tell(Tracked(LISTED, 2, A, True))
    census.end_list()
    assert (load(census), census.unheard) == ({}, 0)


def test_what_was_only_listed_goes_with_a_list_that_lacks_it() -> None:
    census = Census(MASK)
    for listed in ([1, 2], [2], []):
        census.begin_list()
        for ident in listed:
            census.tell(Tracked(LISTED, ident, A, True))
        census.end_list()
        assert (census.open, census.unheard) == (len(listed), len(listed))


class Kernel(RuleBasedStateMachine):
    """A table, and a census that hears of it: of all of it, or with losses that a list makes good."""

    def __init__(self) -> None:
        super().__init__()
        self.census = Census(MASK)
        self.table: dict[int, int] = {}
        self.number = 0
        self.deaf = False
        self.listing: list[tuple[int, int]] | None = None

    def tell(self, tracked: Tracked) -> None:
        if not self.deaf:
            self.census.tell(tracked)

    @rule(mark=st.sampled_from([A, B]))
    def begins(self, mark: int) -> None:
        self.number += 1
        self.table[self.number] = mark
        self.tell(new(self.number, mark))

    @precondition(lambda self: self.table)
    @rule(data=st.data(), closes=st.booleans())
    def ends(self, data: st.DataObject, closes: bool) -> None:
        ident = data.draw(st.sampled_from(sorted(self.table)))
        mark = self.table.pop(ident)
        if closes:
            self.tell(Tracked(UPDATE, ident, mark, False))
        self.tell(Tracked(ENDED, ident, None, False))

    @rule()
    def loses(self) -> None:
        self.deaf = True

    @precondition(lambda self: self.listing is None)
    @rule()
    def begins_list(self) -> None:
        """A list that is begun once everything is heard again."""
        self.deaf = False
        self.census.begin_list()
        self.listing = sorted(self.table.items())

    @precondition(lambda self: self.listing is not None)
    @rule(most=st.integers(1, 5))
    def lists(self, most: int) -> None:
        assert self.listing is not None
        for ident, mark in self.listing[:most]:
            self.census.tell(Tracked(LISTED, ident, mark, True))
        del self.listing[:most]
        if not self.listing:
            self.census.end_list()
            self.listing = None
            self.whole = not self.deaf
            if self.whole:
                assert load(self.census) == dict(Counter(self.table.values()))

    @invariant()
    def no_count_is_negative(self) -> None:
        assert all(number >= 0 for number in self.census.load.values())
        assert self.census.unheard <= self.census.open


TestKernel = Kernel.TestCase
TestKernel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 3))))
def test_pending_decisions_never_outlive_their_time(steps: list[tuple[int, bool, float]]) -> None:
    census, now = Census(MASK), 0.0
    for flow, heard, later in steps:
        now += later
        name = bytes([flow])
        if census.decided(name, now) is None:
            census.decide(name, A, now)
        if heard:
            census.tell(new(flow, A, name))
    for flow in range(4):
        census.tell(Tracked(ENDED, flow, None, False))
    census.forget(now + PENDING)
    assert load(census) == {}
