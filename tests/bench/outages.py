# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How soon the watch's rule notices a black hole, and how often it cries wolf, in simulated time.

python -m tests.bench.outages [--quick]. Other rules judge the same replies of the first target: dpinger's (an alarm
while more than 20 % of the last 60 s are lost) and a count of misses (an alarm after five in a row), both at 500 ms.
Needs neither root nor a network.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from random import Random

CHECKOUT = FilePath(__file__).parents[2]
sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "plugins" / "module_utils")]

from unit.watch.scenes import FOREVER, UNPROBED, settings, simulate  # noqa: E402
from unit.watch.simulator import Bursts, Path  # noqa: E402

from .figures import Table  # noqa: E402

TRIALS = 200
HOUR = 3600.0
# dpinger's defaults as routers set them: window, loss that raises the alarm, and how long a reply may take
DPINGER_PROBES, DPINGER_LOSS, DPINGER_PATIENCE = 120, 0.20, 2.0
MISSES = 5
INTERVAL = 0.5


@dataclass
class OtherRules:
    """How often the other rules raise an alarm on the replies of one target."""

    alarms: Counter[str] = field(default_factory=Counter)
    _window: deque[bool] = field(default_factory=lambda: deque(maxlen=DPINGER_PROBES))
    _lost: int = 0
    _misses: int = 0
    _alarmed: bool = False

    def feed(self, delay: float | None) -> None:
        lost = delay is None or delay > DPINGER_PATIENCE
        self._lost += lost - (self._window[0] if len(self._window) == DPINGER_PROBES else 0)
        self._window.append(lost)
        full = len(self._window) == DPINGER_PROBES
        alarmed = full and self._lost > DPINGER_LOSS * DPINGER_PROBES
        self.alarms["dpinger"] += alarmed and not self._alarmed
        self._alarmed = alarmed
        self._misses = self._misses + 1 if lost else 0
        self.alarms["misses"] += self._misses == MISSES


@dataclass
class JudgedPath(Path):
    """A path whose first target is watched by the other rules, too."""

    rules: OtherRules = field(default_factory=OtherRules)
    _next: float = 0.0

    def reply_after(self, target: int, sent: float, random: Random) -> float | None:
        delay = super().reply_after(target, sent, random)
        # the probes of a burst are ours only
        if target == 0 and sent >= self._next:
            self._next = sent + 0.8 * INTERVAL
            self.rules.feed(delay)
        return delay


TROUBLES = {
    "1 % loss": lambda: JudgedPath(loss=0.01),
    "5 % loss": lambda: JudgedPath(loss=0.05),
    "20 % loss": lambda: JudgedPath(loss=0.2),
    "40 % loss": lambda: JudgedPath(loss=0.4),
    "bursts of 0.3 s a minute apart": lambda: JudgedPath(bursts=Bursts(60, 0.3)),
    "bursts of 1 s five minutes apart": lambda: JudgedPath(bursts=Bursts(300, 1.0)),
    "5 % loss and bursts of 0.5 s a minute apart": lambda: JudgedPath(loss=0.05, bursts=Bursts(60, 0.5)),
    "saturated, 1 s of buffer": lambda: JudgedPath(rtt=1.01, jitter=0.05),
    "saturated, 1 s of buffer, 5 % loss": lambda: JudgedPath(rtt=1.01, jitter=0.05, loss=0.05),
}


def false_outages(hours: float) -> Table:
    """What is said of a link that works, badly; the other link is sound."""
    rows = []
    for name, path in TROUBLES.items():
        troubled = path()
        probe = {"a": settings(), "b": UNPROBED}
        simulation = simulate({"a": troubled, "b": Path()}, hours * HOUR, probe, seed=1)
        others = troubled.rules.alarms
        # back from suspect to degraded is no news
        states = Counter(item.change.after for item in simulation.seen if item.change.before != "suspect")
        states["down"] = simulation.states("a").count("down")
        figures = (states["down"], states["suspect"], states["degraded"], others["dpinger"], others["misses"])
        rows.append([name, *map(str, figures)])
    columns = ("link", "down", "suspect", "degraded", "dpinger's rule", "5 misses in a row")
    note = "burst lengths and distances are means of exponential distributions; suspect and degraded are reversible"
    return Table(f"False outages in {hours:g} simulated hours, profile default", columns, rows, [note])


def detection(trials: int) -> Table:
    """Seconds from a black hole's begin, at a random phase of the probes."""
    rows = []
    for profile in ("fast", "default", "calm", "metered"):
        probe = settings(profile=profile)
        found: dict[str, list[float]] = {"suspect": [], "down": []}
        for seed in range(trials):
            start = 20 * probe.interval + Random(seed).uniform(0, 2 * probe.interval)
            dark = Path(rtt=0.03, dark=[(start, FOREVER)])
            for item in simulate({"a": dark, "b": Path()}, start + 3 * probe.dead, probe, seed).seen:
                found[item.change.after].append(item.at - start)
        rows += [[profile, state, *_spread(times)] for state, times in found.items()]
    return Table(
        f"Seconds until a black hole is noticed, {trials} trials", ("profile", "state", "p50", "p95", "max"), rows
    )


def _spread(times: list[float]) -> list[str]:
    times = sorted(times)
    return [f"{value:.2f}" for value in (times[len(times) // 2], times[int(0.95 * len(times))], times[-1])]


def measure(quick: bool) -> list[Table]:
    return [detection(50 if quick else TRIALS), false_outages(1.0 if quick else 24.0)]


if __name__ == "__main__":
    for table in measure("--quick" in sys.argv[1:]):
        print(table.markdown(), flush=True)
