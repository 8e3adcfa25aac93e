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


@pytest.mark.parametrize(
    ("demo", "backend", "failing", "sources"),
    [
        ("two-links", "iptables", "isp_b", ("5.5.5.5", "6.6.6.6")),
        ("shared-segment", "nftables", "router2", ("192.168.122.65", "192.168.122.66")),
    ],
)
def test_demo_meets_its_expectations(
    tmp_path: Path, demo: str, backend: str, failing: str, sources: tuple[str, str]
) -> None:
    done = subprocess.run(
        DEMO,
        cwd=CHECKOUT,
        env=environment(tmp_path, DEMO=demo, BACKEND=backend, COLUMNS="80"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^All \d+ expectations were met\.", done.stdout, re.MULTILINE)
    for source in sources:
        assert re.search(rf"^ +\d+  {source} - - \[", done.stdout, re.MULTILINE)
    assert_dark(done.stdout, failing, sources[0])
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert leftovers(tmp_path) == []


def assert_dark(page: str, failing: str, survivor: str) -> None:
    """What the page says of the provider that goes dark, and of its return."""
    parts = re.split(r"^\d+  (.+)$", page, flags=re.MULTILINE)
    acts = dict(zip(parts[1::2], parts[2::2], strict=True))
    dark = acts[f"{failing} goes dark, without a word"]
    assert re.search(rf"said of {failing}: suspect after \S+ m?s, down after [12]\.\d s", dark)
    assert re.search(r"\d+ new connections were tried meanwhile: \d+ failed, the last of them", " ".join(dark.split()))
    assert re.search(rf"^  TCP +5 +\d.* +\d.* s +{survivor}$", dark, re.MULTILINE)
    for name in ("UDP", "ping"):
        assert re.search(rf"^  {name} +5 +- +\d.* s +{survivor}$", dark, re.MULTILINE)
    assert re.search(rf"^  {failing} +\S+ +down ", dark, re.MULTILINE)
    assert re.search(rf" {failing} +down -> up ", acts[f"The provider of {failing} forwards again"])


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
