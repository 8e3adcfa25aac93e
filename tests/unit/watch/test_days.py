# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Hours and days of things that are no outage. Set MWAN_SIMULATED_HOURS=24 for whole days of each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from _mwan.watch.settings import ProbeSettings
from unit.watch.scenes import DEFAULT, FOREVER, UNPROBED, settings, simulate
from unit.watch.simulator import Path, Span

HOUR = 3600.0
HOURS = float(os.environ.get("MWAN_SIMULATED_HOURS", "1"))


@dataclass(frozen=True)
class Trouble:
    """What link a goes through, and link b too where it has a path."""

    a: Path
    b: Path | None = None
    hours: float = HOURS
    stops: list[Span] = field(default_factory=list)
    probe: ProbeSettings = DEFAULT


DEAD_TARGET = Path(dead_targets=frozenset({2}))
TROUBLES = {
    "5 % loss for a day": Trouble(Path(loss=0.05), hours=24),
    "20 % loss": Trouble(Path(loss=0.2)),
    "5 % loss, fast": Trouble(Path(loss=0.05), probe=settings(profile="fast")),
    "5 % loss, metered": Trouble(Path(loss=0.05), probe=settings(profile="metered"), hours=24),
    "5 % loss, one target": Trouble(Path(loss=0.05), probe=settings(targets=["192.0.2.1"])),
    "5 % loss on all links": Trouble(Path(loss=0.05), Path(loss=0.05)),
    "saturation with a buffer of a second": Trouble(Path(rtt=1.01, jitter=0.05)),
    "saturation with a buffer of a second for five minutes in ten": Trouble(
        Path(queue=[(600.0 * number, 600.0 * number + 300, 0.99) for number in range(int(6 * HOURS))])
    ),
    "one of three targets dead": Trouble(DEAD_TARGET, DEAD_TARGET),
    "one of three targets dead and 5 % loss": Trouble(Path(loss=0.05, dead_targets=frozenset({0})), DEAD_TARGET),
    "the process stopped for 5 s each minute": Trouble(
        Path(loss=0.05), Path(), stops=[(60.0 * number, 5.0) for number in range(1, int(60 * HOURS))]
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_no_false_outage(trouble: Trouble) -> None:
    probe = {"a": trouble.probe, "b": trouble.probe if trouble.b else UNPROBED}
    paths = {"a": trouble.a, "b": trouble.b or Path()}
    simulation = simulate(paths, trouble.hours * HOUR, probe, seed=5, stops=trouble.stops)
    assert [str(item) for item in simulation.seen if item.change.after == "down"] == []


def test_a_black_hole_is_noticed_after_an_hour_of_loss() -> None:
    simulation = simulate({"a": Path(loss=0.05, dark=[(HOUR, FOREVER)]), "b": Path()}, HOUR + 3, seed=5)
    assert simulation.states("a")[-2:] == ["suspect", "down"]
