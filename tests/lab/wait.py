# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Waiting for what comes some time after it was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK = 0.02  # seconds between looks


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Raises AssertionError when the condition does not hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(LOOK)
