# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The command line on a lab host, out of the checkout."""

from __future__ import annotations

import json
import sys
from typing import Any

from .engine import LIBRARY
from .host import HELPERS, Host

FILES = LIBRARY.parents[1] / "roles" / "router" / "files"


def command(*words: str) -> list[str]:
    """The argument vector of mwanctl."""
    return [sys.executable, "-I", str(HELPERS / "mwand.py"), str(LIBRARY), str(FILES / "mwanctl"), *words]


def ctl(host: Host, *words: str, code: int = 0, columns: int = 120) -> str:
    """What it prints to either output; its exit code is `code`."""
    done = host.run(["env", f"COLUMNS={columns}", *command(*words)], check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def told(host: Host, *words: str, code: int = 0) -> Any:
    """The same as JSON."""
    return json.loads(ctl(host, *words, "--json", code=code))
