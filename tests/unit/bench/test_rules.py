# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The rules that the benchmarks compare with: what they must say of simple losses, reckoned by hand."""

from __future__ import annotations

import pytest
from bench.rules import MWAN3_BRISK, Dpinger, Mwan3, Mwan3Settings, dpinger_alarm

RTT = 0.02
TARGETS = 3


def dpinger(pattern: str, start: float = 0.25) -> list[float]:
    """Probes at half a second's distance: "." answered, "x" lost."""
    rule = Dpinger()
    for number, sign in enumerate(pattern):
        rule.feed(start + number * rule.settings.interval, RTT if sign == "." else None)
    return rule.alarms


def test_dpinger_counts_a_probe_as_lost_after_two_seconds() -> None:
    # The 25th lost one, sent at 12.25, is overdue at 14.25: 25 of 117 that count are 21 %.
    assert dpinger("x" * 60) == [15.0]


def test_dpinger_bears_twenty_percent() -> None:
    assert dpinger("x...." * 400) == []
    assert len(dpinger("x..." * 400)) == 1


def test_dpinger_takes_the_alarm_back_after_ten_quiet_checks_and_may_give_another() -> None:
    outage = "x" * 40
    assert len(dpinger(outage + "." * 60 + outage)) == 1
    assert len(dpinger(outage + "." * 200 + outage)) == 2


def test_a_late_answer_counts_as_one_once_it_is_there() -> None:
    late = Dpinger()
    for number in range(400):
        late.feed(number * 0.5, 1.9)
    assert late.alarms == []


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.99])
def test_dpinger_notices_a_black_hole_within_fifteen_seconds(phase: float) -> None:
    assert 14.0 <= dpinger_alarm(100.0, phase) - 100.0 <= 16.0


def mwan3(settings: Mwan3Settings, dark: list[tuple[float, float]], dead: int | None = None) -> list[float]:
    """Each target has a probe every half second; all are lost in the dark."""
    rule = Mwan3(TARGETS, settings)
    for number in range(2000):
        for target in range(TARGETS):
            sent = number * 0.5 + target / 6
            lost = target == dead or any(begin <= sent < end for begin, end in dark)
            rule.feed(target, sent, None if lost else RTT)
    return rule.downs


def test_mwan3_waits_for_every_target_in_every_round() -> None:
    """Rounds of 3 targets and 2 s each, 5 s apart: the third one ends 28 s after the first began."""
    (down,) = mwan3(MWAN3_BRISK, [(10.0, 1e9)])
    assert 10 + 28 <= down <= 10 + 28 + 5 + 5 + 3 * 0.5


def test_mwan3_is_slower_with_the_defaults_of_the_program() -> None:
    (down,) = mwan3(Mwan3Settings(), [(10.0, 1e9)])
    assert 10 + 100 <= down <= 10 + 100 + 10 + 8


def test_mwan3_is_content_with_one_target() -> None:
    assert mwan3(MWAN3_BRISK, [], dead=0) == []


def test_mwan3_forgets_failed_rounds_with_the_first_good_one() -> None:
    assert mwan3(MWAN3_BRISK, [(begin, begin + 20) for begin in range(10, 900, 40)]) == []


def test_mwan3_has_to_be_up_again_before_it_goes_down_again() -> None:
    """8 good rounds, 5 s apart, are 40 s."""
    assert len(mwan3(MWAN3_BRISK, [(10, 60), (80, 140)])) == 1
    assert len(mwan3(MWAN3_BRISK, [(10, 60), (110, 170)])) == 2


def test_mwan3_takes_a_late_answer_for_none() -> None:
    rule = Mwan3(1, MWAN3_BRISK)
    for number in range(100):
        rule.feed(0, number * 0.5, MWAN3_BRISK.timeout + 0.1)
    assert len(rule.downs) == 1
