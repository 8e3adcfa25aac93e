# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happened since the process started, as numbers that only grow. Pure, and no larger than the settings ask."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from ..health import STATES
from ..watch.machine import TABLE

# seconds; close together where round trips of access lines lie
ROUND_TRIPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
CONVERGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# the changes that probing alone can bring: they are counted from zero, so that the first one is an increase
CHANGES = tuple(dict.fromkeys((row.before.value, row.after.value) for row in TABLE))


class Histogram:
    """How many values were at most each of `bounds`; the last count is of those beyond all."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def dump(self) -> dict[str, Any]:
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": round(self.sum, 9)}


class Probes:
    """What became of the probes of one link to one target."""

    def __init__(self) -> None:
        self.sent = self.refused = self.failed = 0
        self.round_trips = Histogram(ROUND_TRIPS)

    def dump(self) -> dict[str, Any]:
        answered = sum(self.round_trips.counts)
        counts = {"sent": self.sent, "answered": answered, "refused": self.refused, "failed": self.failed}
        return {**counts, "seconds": self.round_trips.dump()}


class Outcomes:
    """How often something went well and how often not. `last_ok` is None before the first time."""

    def __init__(self) -> None:
        self.ok = self.failed = 0
        self.last_ok: bool | None = None

    def count(self, ok: bool) -> None:
        self.last_ok = ok
        if ok:
            self.ok += 1
        else:
            self.failed += 1

    def dump(self) -> dict[str, Any]:
        return {"ok": self.ok, "failed": self.failed, "last_ok": self.last_ok}


class Counters:
    """Counts for the links and targets last configured; what belongs to any other is not counted."""

    def __init__(self) -> None:
        self._probes: dict[str, dict[str, Probes]] = {}
        self._changes: dict[str, dict[tuple[str, str], int]] = {}
        self._converges = Outcomes()
        self._changing = 0
        self._converge_seconds = Histogram(CONVERGES)
        self._overruns = 0
        self._hooks = Outcomes()
        self._reloads = Outcomes()

    def configure(self, links: Mapping[str, Iterable[str]]) -> None:
        """Count for these links and the labels of their targets; those that were there before keep their counts.

        The label of a link's own gateway is "gateway", as in the evidence of changes.
        """
        probes, changes = self._probes, self._changes
        self._probes = {
            name: {label: probes.get(name, {}).get(label) or Probes() for label in labels}
            for name, labels in links.items()
        }
        self._changes = {name: changes.get(name) or dict.fromkeys(CHANGES, 0) for name in links}

    # probes

    def probe_sent(self, link: str, target: str) -> None:
        """A probe leaves; when it turns out that it cannot, it is counted as failed, too."""
        probes = self._of(link, target)
        if probes:
            probes.sent += 1

    def probe_answered(self, link: str, target: str, seconds: float) -> None:
        probes = self._of(link, target)
        if probes:
            probes.round_trips.observe(seconds)

    def probe_refused(self, link: str, target: str) -> None:
        """A probe got a negative answer."""
        probes = self._of(link, target)
        if probes:
            probes.refused += 1

    def probe_failed(self, link: str, target: str) -> None:
        """A probe could not be sent."""
        probes = self._of(link, target)
        if probes:
            probes.failed += 1

    def _of(self, link: str, target: str) -> Probes | None:
        return self._probes.get(link, {}).get(target)

    # events

    def changed(self, link: str, before: str, after: str) -> None:
        counts = self._changes.get(link)
        if counts is not None and before in STATES and after in STATES:
            counts[before, after] = counts.get((before, after), 0) + 1

    def converged(self, seconds: float, changed: bool, ok: bool) -> None:
        """One run of the flow took so long; `changed` when there was anything to do."""
        self._converges.count(ok)
        self._changing += changed and ok
        self._converge_seconds.observe(seconds)

    def overrun(self) -> None:
        """The kernel dropped notifications because the socket's buffer was full."""
        self._overruns += 1

    def hook(self, ok: bool) -> None:
        self._hooks.count(ok)

    def reloaded(self, ok: bool) -> None:
        self._reloads.count(ok)

    def dump(self) -> dict[str, Any]:
        """Everything as plain data, as the control socket's "status" answer carries it."""
        return {
            "probes": {
                link: {label: probes.dump() for label, probes in targets.items()}
                for link, targets in self._probes.items()
            },
            "changes": {
                link: [{"from": before, "to": after, "count": count} for (before, after), count in counts.items()]
                for link, counts in self._changes.items()
            },
            "converges": {
                **self._converges.dump(),
                "changed": self._changing,
                "seconds": self._converge_seconds.dump(),
            },
            "overruns": self._overruns,
            "hooks": self._hooks.dump(),
            "reloads": self._reloads.dump(),
        }
