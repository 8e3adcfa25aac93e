# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What probing costs: CPU time, memory and descriptors of one process at 2, 8 and 60 links with three targets each."""

from __future__ import annotations

import time
from typing import Any

from tests.lab import topology
from tests.lab.engine import Engine
from tests.lab.probes import Answers, Prober, bindings

from .figures import Table

LINKS = (2, 8, 60)
INTERVAL = 0.5  # seconds, of each target
MINUTE = 60.0
TARGETS = ("7.7.7.1", "7.7.7.2", "7.7.7.3")


def measure(quick: bool) -> list[Table]:
    seconds = 2.0 if quick else 10.0
    rows = [row(number, kind, seconds) for kind in ("icmp", "tcp", "dns") for number in LINKS]
    columns = (
        "links",
        "kind",
        "probes/s",
        "CPU s per minute",
        "share of a core",
        "peak MiB",
        "descriptors",
        "answered",
    )
    notes = [
        f"Three targets a link, one probe to each every {INTERVAL} s; measured for {seconds:.0f} s and scaled.",
        "A process that only probes: the watching of the kernel and the decisions are not in it.",
    ]
    return [Table("Cost of probing", columns, rows, notes)]


def row(number: int, kind: str, seconds: float) -> list[str]:
    with topology.many_links(number) as net, Engine(net) as engine, Answers(net.server):
        links = bindings(net, engine)
        with Prober(net.router) as prober:
            for link, binding in links.items():
                for target in TARGETS:
                    prober.make(f"{link} {target}", options(kind, target), binding)
            used = spent(prober, seconds)
    rate = used["replied"] / used["seconds"]
    asked = 3 * number / INTERVAL * used["seconds"]
    return [
        str(number),
        kind,
        f"{rate:.0f}",
        f"{used['cpu'] / used['seconds'] * MINUTE:.2f}",
        f"{used['cpu'] / used['seconds']:.1%}",
        f"{used['peak_kib'] / 1024:.0f}",
        str(used["descriptors"]),
        f"{used['replied'] / asked:.1%}",
    ]


def options(kind: str, target: str) -> dict[str, Any]:
    return {"kind": kind, "address": target, "port": 53 if kind == "dns" else 80, "query": "check.example"}


def spent(prober: Prober, seconds: float) -> dict[str, Any]:
    """What the process used in that time, after a start-up that does not count."""
    prober.order("pace", interval=INTERVAL)
    time.sleep(2 * INTERVAL)
    before = prober.cost()
    time.sleep(seconds)
    after = prober.cost()
    used = {key: after[key] - before[key] for key in ("cpu", "replied", "refused", "failed")}
    return {**after, **used, "seconds": after["time"] - before["time"]}
