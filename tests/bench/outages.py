# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""How soon the watch's rule notices a black hole, and how often it cries wolf, in simulated time.

python -m tests.bench.outages [--quick]. The rules of others judge the same probes: dpinger's those of the first
target, mwan3's whichever is sent next when it wants to ping. Needs neither root nor a network.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from random import Random

CHECKOUT = FilePath(__file__).parents[2]
sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "plugins" / "module_utils")]

from unit.watch.scenes import DEFAULT, FOREVER, UNPROBED, settings, simulate  # noqa: E402
from unit.watch.simulator import Path, Span  # noqa: E402

from .figures import Table, spread  # noqa: E402
from .rules import MWAN3_BRISK, Dpinger, Mwan3, Mwan3Settings  # noqa: E402

TRIALS = 200
HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Bursts:
    """A Gilbert-Elliott channel: all is lost now and then; mean seconds between and within, both exponential."""

    between: float
    within: float
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        random, end = Random(7), 0.0
        while end < DAY:
            start = end + random.expovariate(1 / self.between)
            end = start + random.expovariate(1 / self.within)
            self.spans.append((start, end))
        self._ends = [end for _start, end in self.spans]

    def covers(self, moment: float, random: Random) -> bool:  # noqa: ARG002  (as the simulator's)
        at = bisect_right(self._ends, moment)
        return at < len(self.spans) and self.spans[at][0] <= moment

    def longer(self, seconds: float, until: float) -> int:
        """How many of them up to a time are real outages of so many seconds."""
        return sum(end - start > seconds and start < until for start, end in self.spans)


@dataclass
class JudgedPath(Path):
    """A path that the other rules watch, too."""

    dpinger: Dpinger = field(default_factory=Dpinger)
    mwan3: Mwan3 = field(default_factory=lambda: Mwan3(len(DEFAULT.targets), MWAN3_BRISK))
    mwan3_slow: Mwan3 = field(default_factory=lambda: Mwan3(len(DEFAULT.targets), Mwan3Settings()))
    _next: float = 0.0

    def reply_after(self, target: int, sent: float, random: Random) -> float | None:
        delay = super().reply_after(target, sent, random)
        for rule in (self.mwan3, self.mwan3_slow):
            rule.feed(target, sent, delay)
        # the probes of a burst are ours only
        if target == 0 and sent >= self._next:
            self._next = sent + 0.8 * self.dpinger.settings.interval
            self.dpinger.feed(sent, delay)
        return delay


# name -> what is lost, and the bursts in it
TROUBLES: dict[str, Callable[[], JudgedPath]] = {
    "1 % loss": lambda: JudgedPath(loss=0.01),
    "5 % loss": lambda: JudgedPath(loss=0.05),
    "20 % loss": lambda: JudgedPath(loss=0.2),
    "bursts of 0.5 s, a minute apart": lambda: JudgedPath(bursts=Bursts(60, 0.5)),
    "bursts of 2 s, ten minutes apart": lambda: JudgedPath(bursts=Bursts(600, 2.0)),
    "5 % loss, and bursts of 0.5 s, a minute apart": lambda: JudgedPath(loss=0.05, bursts=Bursts(60, 0.5)),
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
        # back from suspect to degraded is no news
        states = Counter(item.change.after for item in simulation.seen if item.change.before != "suspect")
        real = troubled.bursts.longer(DEFAULT.dead, hours * HOUR) if isinstance(troubled.bursts, Bursts) else 0
        figures = (
            real,
            simulation.states("a").count("down"),
            states["suspect"],
            states["degraded"],
            len(troubled.mwan3.downs),
            len(troubled.mwan3_slow.downs),
            len(troubled.dpinger.alarms),
        )
        rows.append([name, *map(str, figures)])
    columns = (
        "link",
        "bursts over 2 s",
        "down",
        "suspect",
        "degraded",
        "mwan3, 2 s, 5 s, 3 rounds",
        "mwan3, 4 s, 10 s, 5 rounds",
        "dpinger, 20 % of 60 s",
    )
    notes = [
        "Gilbert-Elliott bursts, in which everything is lost: their lengths and distances are means of exponential"
        " distributions. One that is longer than T_dead (2 s) is an outage, and to be found.",
        "Suspect and degraded are reversible and break nothing. The other rules judge the very same probes.",
        "mwan3: timeout, interval, down; three targets, reliability 1. dpinger: every 500 ms, lost after 2 s.",
    ]
    return Table(f"Alarms in {hours:g} simulated hours, profile default", columns, rows, notes)


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
        rows += [[profile, state, *spread(times)] for state, times in found.items()]
    return Table(
        f"Seconds until a black hole is noticed by the rule alone, {trials} simulated trials",
        ("profile", "state", "p50", "p95", "max"),
        rows,
    )


def measure(quick: bool) -> list[Table]:
    return [detection(50 if quick else TRIALS), false_outages(1.0 if quick else 24.0)]


if __name__ == "__main__":
    for table in measure("--quick" in sys.argv[1:]):
        print(table.markdown(), flush=True)
