# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is logged, and how loudly."""

from __future__ import annotations

import pytest
from _mwan.service import wording
from _mwan.watch.judge import Change

DOWN = Change(
    "isp_a",
    "up",
    "down",
    "no answer for 2.0 s from 1.1.1.1",
    {"loss": 0.4, "rtt": 0.012, "in_state_for": 11105.0},
    False,
)


def test_a_change_in_words() -> None:
    event = wording.change_record(DOWN, 1_700_000_000.5)
    assert wording.line(event) == (
        "isp_a: up -> down: no answer for 2.0 s from 1.1.1.1 (loss 40%, rtt 12 ms, up for 3 h 5 min)"
    )
    assert (event["time"], event["duration"]) == ("2023-11-14T22:13:20.500+00:00", 11105.0)
    assert wording.level(event) == wording.WARNING


def test_other_events_in_words() -> None:
    failed = wording.record("converge_failed", 0.0, reason="no nft", duration=0.1)
    assert (wording.line(failed), wording.level(failed)) == ("converge failed: no nft", wording.ERROR)
    drained = wording.record("state", 0.0, link="isp_a", before="up", after="drained", reason="works")
    assert (wording.line(drained), wording.level(drained)) == ("isp_a: up -> drained: works", wording.NOTICE)
    assert wording.line(wording.record("reload", 0.0)) == "reload"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
        (1e7, "115 d 17 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text
