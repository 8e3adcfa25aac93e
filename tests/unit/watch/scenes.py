# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Links to watch in tests, and shorthands for simulating them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from _mwan.watch.settings import ProbeSettings
from unit.watch.simulator import Path, Simulation, Span

DEFAULT = ProbeSettings()
# a link that only the kernel watches: trusted, and cheap to simulate
UNPROBED = ProbeSettings.parse("probe", {"targets": []})
FOREVER = 1e9


def settings(**given: Any) -> ProbeSettings:
    return ProbeSettings.parse("probe", given)


def simulate(
    paths: Mapping[str, Path],
    until: float,
    probe: ProbeSettings | Mapping[str, ProbeSettings] = DEFAULT,
    seed: int = 0,
    adopted: Mapping[str, str] | None = None,
    stops: Iterable[Span] = (),
) -> Simulation:
    """Links with these paths, watched in the same way unless told, all up at first unless told."""
    each = probe if isinstance(probe, Mapping) else dict.fromkeys(paths, probe)
    return Simulation(each, paths, seed, adopted, stops).run(until)


def with_dead_targets(simulation: Simulation, dead: Collection[int], until: float) -> Simulation:
    """Run until then, while these targets, by their index, answer on no link."""
    for path in simulation.paths.values():
        path.dead_targets = frozenset(dead)
    return simulation.run(until)
