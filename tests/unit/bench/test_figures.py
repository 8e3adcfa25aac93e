# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Percentiles as the tables give them."""

from __future__ import annotations

from bench.figures import spread


def test_percentiles_are_values_that_were_measured() -> None:
    assert spread([number / 1000 for number in range(100, 0, -1)], scale=1000, digits=0) == ["50", "95", "100"]


def test_of_a_single_value_all_are_it() -> None:
    assert spread([1.234]) == ["1.23", "1.23", "1.23"]
