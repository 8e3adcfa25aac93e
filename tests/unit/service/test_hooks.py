# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Hooks as processes: none is left behind, and slow ones are told of once."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest
from _mwan.service import hooks

EVENT = {"event": "state", "link": "isp_a"}


def program(directory: Path, text: str) -> str:
    path = directory / "10-hook"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def ended(number: int) -> bool:
    """Within two seconds; a zombie that nobody here waits for has ended, too."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("last", "limit", "said"), [("exit 3", 10.0, "ended with status 3"), ("sleep 30", 1.0, "killed after")]
)
def test_what_a_hook_left_in_the_background_ends_with_it(tmp_path: Path, last: str, limit: float, said: str) -> None:
    path = program(tmp_path, f"sleep 60 &\necho $! > {tmp_path}/child\n{last}")
    assert said in asyncio.run(hooks.run(path, EVENT, limit))
    assert ended(int((tmp_path / "child").read_text(encoding="utf-8")))


def test_a_hook_that_cannot_be_watched_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def refuse(pid: int) -> int:
        seen.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert "Too many open files" in asyncio.run(hooks.run(program(tmp_path, "sleep 60"), EVENT, 5))
    with pytest.raises(ChildProcessError):
        os.waitpid(seen[0], os.WNOHANG)


def test_slow_hooks_are_told_of_once(tmp_path: Path) -> None:
    said: list[str] = []

    async def flood() -> None:
        program(tmp_path, "sleep 60")
        shown = hooks.Hooks(said.append, str(tmp_path))
        for _event in range(hooks.MOST_WAITING + 50):
            shown.add(EVENT)
        await shown.close()

    asyncio.run(flood())
    assert ["hooks are slow" in text for text in said] == [True]
