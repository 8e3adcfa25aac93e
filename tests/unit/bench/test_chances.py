# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Chi-squared against values from printed tables; runs and moves by hand."""

from __future__ import annotations

import pytest
from bench.chances import change_cells, chi_squared, longest_run, moved, probability, share_cells


@pytest.mark.parametrize(
    ("statistic", "freedom", "expected"),
    [(3.841, 1, 0.05), (6.635, 1, 0.01), (5.991, 2, 0.05), (7.815, 3, 0.05), (18.307, 10, 0.05), (0.0, 2, 1.0)],
)
def test_probability_is_that_of_the_tables(statistic: float, freedom: int, expected: float) -> None:
    assert probability(statistic, freedom) == pytest.approx(expected, rel=1e-3)


def test_chi_squared_is_the_sum_over_all_links() -> None:
    assert chi_squared({"a": 60, "b": 40}, {"a": 1, "b": 1}) == pytest.approx(4.0)
    # one that got nothing counts too
    assert chi_squared({"a": 80}, {"a": 3, "b": 1}) == pytest.approx(20 / 3 + 20)


def test_a_link_that_should_have_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="isp_x"):
        chi_squared({"isp_x": 1}, {"a": 1})


def test_longest_run() -> None:
    assert longest_run("aabbbab") == 3
    assert longest_run("") == 0


def test_only_clients_of_other_links_count_as_moved() -> None:
    before = {1: "a", 2: "b", 3: "b"}
    assert moved(before, {1: "b", 2: "b", 3: "c"}, gone="a") == 1


def test_cells_of_shares() -> None:
    assert share_cells("aaab", "abc", (3, 1)) == ["3:1", "75.00% : 25.00%", "0.00", "1.000", "3"]


def test_cells_of_changes() -> None:
    before = {1: "a", 2: "a", 3: "b", 4: "c"}
    during = {1: "b", 2: "c", 3: "b", 4: "b"}
    after = {1: "a", 2: "c", 3: "b", 4: "b"}
    assert change_cells(before, during, after, "a") == ["2", "50.0% : 50.0%", "1 of 2", "1 of 2", "2"]
