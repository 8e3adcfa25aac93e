# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What is counted, and that it stays as small as the settings ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
from _mwan.service.counters import CHANGES, ROUND_TRIPS, Counters, Histogram


def counting(**links: list[str]) -> Counters:
    counters = Counters()
    counters.configure(links)
    return counters


def probes(counters: Counters, link: str, target: str) -> dict[str, Any]:
    found: dict[str, Any] = counters.dump()["probes"][link][target]
    return {key: value for key, value in found.items() if key != "seconds"}


def changes(counters: Counters, link: str) -> dict[tuple[str, str], int]:
    return {(item["from"], item["to"]): item["count"] for item in counters.dump()["changes"][link]}


def test_a_histogram_counts_a_bound_itself_below_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        histogram.observe(value)
    assert histogram.dump() == {"bounds": [0.1, 1.0], "counts": [2, 2, 1], "sum": 8.65}


def test_probes_are_counted_by_link_and_target() -> None:
    counters = counting(isp_a=["x", "y"], isp_b=["x"])
    for _unused in range(3):
        counters.probe_sent("isp_a", "x")
    counters.probe_answered("isp_a", "x", 0.02)
    counters.probe_refused("isp_a", "x")
    counters.probe_failed("isp_b", "x")
    assert probes(counters, "isp_a", "x") == {"sent": 3, "answered": 1, "refused": 1, "failed": 0}
    assert probes(counters, "isp_a", "y") == {"sent": 0, "answered": 0, "refused": 0, "failed": 0}
    assert probes(counters, "isp_b", "x") == {"sent": 0, "answered": 0, "refused": 0, "failed": 1}


def test_changes_are_counted_from_zero() -> None:
    counters = counting(isp_a=[])
    assert changes(counters, "isp_a") == dict.fromkeys(CHANGES, 0)
    counters.changed("isp_a", "up", "suspect")
    counters.changed("isp_a", "up", "suspect")
    counters.changed("isp_a", "up", "drained")
    assert changes(counters, "isp_a") == {**dict.fromkeys(CHANGES, 0), ("up", "suspect"): 2, ("up", "drained"): 1}


def test_links_and_targets_that_stay_keep_their_counts() -> None:
    counters = counting(isp_a=["x", "y"])
    counters.probe_sent("isp_a", "x")
    counters.changed("isp_a", "up", "down")
    counters.configure({"isp_a": ["x", "z"], "isp_b": ["x"]})
    assert probes(counters, "isp_a", "x")["sent"] == 1
    assert changes(counters, "isp_a")["up", "down"] == 1
    assert sorted(counters.dump()["probes"]["isp_a"]) == ["x", "z"]
    assert probes(counters, "isp_b", "x")["sent"] == 0


def test_what_is_gone_is_neither_counted_nor_kept() -> None:
    counters = counting(isp_a=["x"])
    counters.probe_sent("isp_a", "x")
    counters.configure({"isp_b": ["x"]})
    before = counters.dump()
    for report in (counters.probe_sent, counters.probe_refused, counters.probe_failed):
        report("isp_a", "x")
        report("isp_b", "y")
    counters.probe_answered("isp_a", "x", 1.0)
    counters.changed("isp_a", "up", "down")
    counters.changed("isp_b", "up", "nonsense")
    assert counters.dump() == before
    counters.configure({"isp_a": ["x"]})
    assert probes(counters, "isp_a", "x")["sent"] == 0


def test_runs_hooks_reloads_and_overruns() -> None:
    counters = Counters()
    assert counters.dump()["reloads"]["last_ok"] is None
    counters.converged(0.02, changed=True, ok=True)
    counters.converged(0.004, changed=False, ok=True)
    counters.converged(9.0, changed=True, ok=False)
    counters.hook(ok=True)
    counters.hook(ok=False)
    counters.reloaded(ok=False)
    counters.reloaded(ok=True)
    counters.overrun()
    told = counters.dump()
    seconds = told["converges"].pop("seconds")
    assert told["converges"] == {"ok": 2, "failed": 1, "last_ok": False, "changed": 1}
    assert (sum(seconds["counts"]), seconds["sum"]) == (3, 9.024)
    assert told["hooks"] == {"ok": 1, "failed": 1, "last_ok": False}
    assert told["reloads"] == {"ok": 1, "failed": 1, "last_ok": True}
    assert told["overruns"] == 1


def test_a_dump_is_plain_data_that_does_not_change_later() -> None:
    counters = counting(isp_a=["x"])
    counters.probe_answered("isp_a", "x", ROUND_TRIPS[-1] + 1)
    told = counters.dump()
    text = json.dumps(told)
    counters.probe_answered("isp_a", "x", 0.1)
    counters.changed("isp_a", "up", "down")
    assert json.dumps(told) == text


@pytest.mark.parametrize("rounds", [10, 1000])
def test_memory_is_bounded_by_the_settings(rounds: int) -> None:
    counters = Counters()
    for number in range(rounds):
        counters.configure({f"isp_{number}": [f"192.0.2.{number % 250}"], "isp": ["x"]})
        counters.probe_sent(f"isp_{number}", f"192.0.2.{number % 250}")
        counters.changed("isp", "up", "down")
    told = counters.dump()
    assert sorted(told["probes"]) == sorted(told["changes"]) == ["isp", f"isp_{rounds - 1}"]
