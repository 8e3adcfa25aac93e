# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""python -m tests.bench [NAME|all] [--quick] [--json FILE], with a name of BENCHES."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import (
    apply,
    choosing,
    connmark,
    cost,
    failover,
    forwarding,
    hitless,
    outages,
    per_packet,
    probing,
    queue,
    reaction,
    rulecost,
    runs,
    spread,
    stickiness,
)
from .figures import Table

BENCHES: dict[str, Callable[[bool], list[Table]]] = {
    "apply": apply.measure,
    "hitless": hitless.measure,
    "forwarding": forwarding.measure,
    "probing": probing.measure,
    "outages": outages.measure,
    "failover": failover.measure,
    "reaction": reaction.measure,
    "cost": cost.measure,
    "queue": queue.measure,
    "spread": spread.measure,
    "rules": rulecost.measure,
    "runs": runs.measure,
    "choosing": choosing.measure,
    "connmark": connmark.measure,
    "stickiness": stickiness.measure,
    "per-packet": per_packet.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description="Measure; print Markdown tables.")
    parser.add_argument("what", nargs="?", choices=[*BENCHES, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root, for network namespaces")
    tables: list[Table] = []
    for name, bench in BENCHES.items():
        if options.what in (name, "all"):
            began = time.monotonic()
            for table in bench(options.quick):
                tables.append(table)
                print(table.markdown(), flush=True)
            print(f"({name}: {time.monotonic() - began:.0f} s)\n", file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps([table.as_data() for table in tables], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
