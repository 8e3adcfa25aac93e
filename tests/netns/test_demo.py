# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""The demo ends well, says so, refuses what it does not know, and leaves nothing, also when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.ansible import CHECKOUT

DEMO = [sys.executable, "-m", "tests.lab.demo"]


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """Everything the demo makes is below `directory`, so that what it leaves is found."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DEMO", "BACKEND"))}
    return {**kept, "TMPDIR": str(directory), "DEMO_CONNECTIONS": "200", **settings}


def leftovers(directory: Path) -> list[str]:
    """Files below the directory, and processes that were started in the demo: all have it in their environment."""
    mark = str(directory).encode()
    found = [str(path) for path in directory.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode())
        except OSError:  # ended meanwhile
            continue
    return found


def test_demo_meets_its_expectations(tmp_path: Path) -> None:
    done = subprocess.run(
        DEMO,
        cwd=CHECKOUT,
        env=environment(tmp_path, BACKEND="iptables", COLUMNS="80"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^All \d+ expectations were met\.", done.stdout, re.MULTILINE)
    assert re.search(r"^ +\d+  5\.5\.5\.5 - - \[", done.stdout, re.MULTILINE)
    assert re.search(r"^ +\d+  6\.6\.6\.6 - - \[", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert leftovers(tmp_path) == []


def test_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        DEMO, cwd=CHECKOUT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("3  "):
            break
    time.sleep(2.0)  # the playbook runs
    assert leftovers(tmp_path)
    demo.send_signal(signal.SIGINT)
    rest, _unused = demo.communicate(timeout=30)
    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 5
    while leftovers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "value"), [("DEMO", "three-links"), ("BACKEND", "ipfw"), ("DEMO_CONNECTIONS", "99"), ("BACKEND", "auto")]
)
def test_unknown_setting_is_refused(tmp_path: Path, name: str, value: str) -> None:
    wanted = environment(tmp_path, **{name: value})
    done = subprocess.run(DEMO, cwd=CHECKOUT, env=wanted, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"demo: {name} is " in done.stderr
    assert repr(value) in done.stderr
