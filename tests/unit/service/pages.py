# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A status as the control socket tells it, and what is read out of a page of metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from _mwan.service.counters import Counters
from _mwan.watch.judge import Watch
from _mwan.watch.settings import ProbeSettings

# two routers of one provider are behind wan1
DEVICES = {"isp_a": "wan1", "isp_b": "ppp0", "isp_c": "wan1"}
TARGETS = ("192.0.2.1", "tcp://192.0.2.2:443")
TRAFFIC = {
    "devices": {"wan1": {"received": 1000, "sent": 2000}, "ppp0": {"received": 5, "sent": 6}},
    "connections": {"isp_a": 25, "isp_b": 0, "isp_c": 75},
    "counted": 1700000100.0,
    "took": 0.125,
}
SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)\n")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[tuple[str, str]]


def status(**more: Any) -> dict[str, Any]:
    """Links probed for two seconds: isp_b has been silent after one answer."""
    settings = ProbeSettings.parse("probe", {"targets": TARGETS})
    watch = Watch(dict.fromkeys(DEVICES, settings), {}, 0.0)
    counters = Counters()
    counters.configure(dict.fromkeys(DEVICES, (*TARGETS, "gateway")))
    for second in range(3):
        for link in DEVICES:
            for index, target in enumerate(TARGETS):
                watch.sent(link, index, second, second)
                counters.probe_sent(link, target)
                if link != "isp_b" or not second:
                    watch.replied(link, index, second, second + 0.02)
                    counters.probe_answered(link, target, 0.02)
        for change in watch.decide(second + 0.5):
            counters.changed(change.link, change.before, change.after)
    counters.converged(0.04, changed=True, ok=True)
    counters.reloaded(ok=True)
    links = {
        name: {
            **entry,
            "device": DEVICES[name],
            "since_wall": 1700000000.0,
            "released": None,
            "drained": None,
        }
        for name, entry in watch.snapshot(3.0).items()
    }
    common = {
        "held": watch.held,
        "version": "0.1.0",
        "started": 1699999999.5,
        "problem": "",
        "counters": counters.dump(),
    }
    return {"links": links, **common, "traffic": TRAFFIC, **more}


def samples(page: str) -> Mapping[tuple[str, Labels], float]:
    """Every sample by name and labels; raises AssertionError for a line that is no sample, and for one told twice."""
    found: dict[tuple[str, Labels], float] = {}
    for line in page.splitlines(keepends=True):
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        key = match[1], frozenset(LABEL.findall(match[2] or ""))
        assert key not in found, line
        found[key] = float(match[3])
    return found


def value(page: str, name: str, **labels: str) -> float | None:
    return samples(page).get((name, frozenset(labels.items())))


def families(page: str) -> dict[str, str]:
    """Kinds of metrics by name."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def names(page: str) -> set[str]:
    """The names that a query can ask for: of histograms, those of their parts."""
    parts = ("_bucket", "_sum", "_count")
    told = families(page).items()
    return {name + part for name, kind in told for part in (parts if kind == "histogram" else ("",))}
