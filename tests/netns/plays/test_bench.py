# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Benchmarks compare like with like."""

from __future__ import annotations

import subprocess
import sys

from lab.ansible import CHECKOUT

# raises where the two differ
BUILT = """
from tests.bench.apply import prepare
from tests.lab.topology import many_links

with many_links(2) as topology:
    prepare(topology)
"""


def test_a_router_built_by_hand_is_like_one_by_the_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILT], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
