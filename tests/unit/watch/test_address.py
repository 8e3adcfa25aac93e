# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links whose device and carrier stay while their address, or a learned gateway, is away for a while."""

from __future__ import annotations

import pytest
from _mwan.watch.settings import ProbeSettings
from unit.watch.scenes import DEFAULT, UNPROBED, settings, simulate
from unit.watch.simulator import Path, Simulation

PROBES = {
    "default": DEFAULT,
    **{name: settings(profile=name) for name in ("fast", "calm", "metered")},
    "one target": settings(targets=["192.0.2.1"]),
    "no targets": UNPROBED,
}


def address_goes(*spans: tuple[float, float], probe: ProbeSettings = DEFAULT, until: float = 200.0) -> Simulation:
    simulation = simulate({"a": Path(), "b": Path()}, 0, probe)
    for start, end in spans:
        simulation.kernel(start, "a", False, "no address", passing=True)
        simulation.kernel(end, "a", True, "")
    return simulation.run(until)


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_an_address_that_is_back_in_a_moment_costs_no_more_than_that_moment(probe: ProbeSettings) -> None:
    simulation = address_goes((50, 50.2), probe=probe)
    down, up = simulation.seen
    assert (down.at, down.change.after, down.change.reason, down.change.immediate) == (50, "down", "no address", False)
    assert up.change.after == "up"
    assert 50.2 <= up.at < 50.5
    assert up.change.reason.startswith("answers again after 0.")


def test_an_address_that_stays_away_is_an_outage() -> None:
    simulation = address_goes((50, 51.1))
    assert simulation.states("a") == ["down", "up"]
    assert 71.1 <= simulation.seen[1].at < 71.6


def test_no_time_to_release_connections_is_no_time_to_come_back() -> None:
    assert address_goes((50, 50.2), probe=settings(flush_delay=0)).seen[1].at >= 70.2


def test_an_address_that_comes_and_goes_is_damped() -> None:
    first, second = address_goes((50, 50.2), (60, 60.2), until=120).seen[1::2]
    assert first.at < 50.5
    assert 80.2 <= second.at < 80.7, "the one that was forgiven does not count"
    assert address_goes((50, 50.2), (360, 360.2), until=400).seen[-1].at < 360.5, "a half-life later it is again"


def test_a_carrier_that_goes_after_the_address_is_an_outage() -> None:
    simulation = simulate({"a": Path(), "b": Path()}, 0)
    simulation.kernel(50, "a", False, "no address", passing=True)
    simulation.kernel(50.1, "a", False)
    simulation.kernel(50.2, "a", False, "no address", passing=True)
    simulation.kernel(50.3, "a", True, "")
    assert simulation.run(100).seen[1].at >= 70.3


def test_an_earlier_outage_that_counts_leaves_no_room_for_an_address_to_go() -> None:
    simulation = simulate({"a": Path(dark=[(20, 30)]), "b": Path()}, 0)
    simulation.kernel(60, "a", False, "no address", passing=True)
    simulation.kernel(60.2, "a", True, "")
    assert simulation.run(120).seen[-1].at >= 90
