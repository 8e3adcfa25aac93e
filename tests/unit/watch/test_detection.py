# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How long until a silent black hole is noticed, from the instant it begins, at a random phase of the probes."""

from __future__ import annotations

from random import Random

import pytest
from _mwan.watch.settings import ProbeSettings
from unit.watch.scenes import DEFAULT, FOREVER, settings, simulate
from unit.watch.simulator import Path

TRIALS = 50
WARM_UP = 5.0


def delays(probe: ProbeSettings, path: Path, links: int = 2, trials: int = TRIALS) -> dict[str, list[float]]:
    """Sorted seconds from the injection to each state, one of each per trial."""
    found: dict[str, list[float]] = {"suspect": [], "down": []}
    for seed in range(trials):
        random = Random(seed)
        start = WARM_UP + 4 * probe.interval + random.uniform(0, 2 * probe.interval)
        path.dark = [(start, FOREVER)]
        paths = {"a": path, **{f"b{number}": Path(rtt=random.uniform(0.005, 0.1)) for number in range(1, links)}}
        simulation = simulate(paths, start + 3 * probe.dead, probe, seed)
        assert simulation.states("a") == ["suspect", "down"]
        for item in simulation.seen:
            assert item.change.link == "a"
            found[item.change.after].append(item.at - start)
    return {state: sorted(times) for state, times in found.items()}


def p95(times: list[float]) -> float:
    return times[int(0.95 * len(times))]


@pytest.mark.parametrize(
    ("probe", "suspect", "down"),
    [
        (DEFAULT, 1.1, 2.2),
        (settings(profile="fast"), 0.55, 1.1),
        (settings(profile="calm"), 2.2, 4.4),
        (settings(targets=["192.0.2.1"]), 1.1, 2.2),
        (settings(targets=["192.0.2.1", "192.0.2.2"]), 1.1, 2.2),
        (settings(targets=["192.0.2.1", "192.0.2.2", "192.0.2.3"], quorum=2), 1.1, 2.2),
    ],
    ids=["default", "fast", "calm", "one target", "two targets", "quorum of two"],
)
@pytest.mark.parametrize("rtt", [0.005, 0.08], ids=["near", "far"])
def test_a_black_hole_is_noticed_in_time(probe: ProbeSettings, suspect: float, down: float, rtt: float) -> None:
    found = delays(probe, Path(rtt=rtt))
    assert p95(found["suspect"]) <= suspect
    assert p95(found["down"]) <= down


def test_loss_before_the_black_hole_delays_nothing() -> None:
    found = delays(settings(loss=50), Path(loss=0.05))
    assert p95(found["suspect"]) <= 1.1
    assert p95(found["down"]) <= 2.2


def test_three_links_notice_like_two() -> None:
    found = delays(DEFAULT, Path(), links=3, trials=30)
    assert p95(found["down"]) <= 2.2


def test_a_metered_link_is_confirmed_dead_by_a_burst() -> None:
    found = delays(settings(profile="metered"), Path(), trials=30)
    assert p95(found["suspect"]) <= 11
    assert p95(found["down"]) <= 21


def test_a_metered_link_is_hardly_probed_while_it_is_well() -> None:
    assert simulate({"a": Path(), "b": Path()}, 1000, settings(profile="metered")).probes <= 2 * 3 * 101
