# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Percentiles as the tables give them."""

from __future__ import annotations

from bench.figures import none, spread


def test_percentiles_are_values_that_were_measured() -> None:
    assert spread([number / 1000 for number in range(100, 0, -1)], scale=1000, digits=0) == ["50", "95", "100"]


def test_of_a_single_value_all_are_it() -> None:
    assert spread([1.234]) == ["1.23", "1.23", "1.23"]


def test_what_is_to_be_nothing_is_summed() -> None:
    assert none(["0 of 10", "0"]) == "0, aim 0: met"
    assert none(["0 of 10", "3 of 10", "1"]) == "4, aim 0: missed"
