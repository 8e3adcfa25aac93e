# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The administrator's programs, run for each event, one after another and beside everything else."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..probes.command import RESTORED, SEARCH_PATH, kill, watched

HOOKS = "/etc/mwan/hooks.d"
LIMIT = 30.0  # seconds for each
# Events that wait while a hook is slow; the oldest are given up.
MOST_WAITING = 200
FIELDS = ("event", "link", "before", "after", "reason")

Told = Callable[[str], None]


class Hooks:
    """`done` is called for each hook that ended, with what was wrong with it or an empty text."""

    def __init__(self, done: Told, directory: str = HOOKS, limit: float = LIMIT) -> None:
        self._done, self._directory, self._limit = done, directory, limit
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        # whether events were given up, and it was told
        self._slow = False

    def add(self, event: Mapping[str, Any]) -> None:
        """Run all hooks for this event, after those for the events before."""
        self._waiting.append(event)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            if not self._slow:
                self._done(f"hooks are slow: events are given up until fewer than {MOST_WAITING // 2} wait")
            self._slow = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """End what runs."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            self._slow = self._slow and len(self._waiting) > MOST_WAITING // 2
            for path in programs(self._directory):
                self._done(await run(path, event, self._limit))


def programs(directory: str) -> list[str]:
    """The executable files, in the order of their names; those that begin with a dot or end with ~ are left out."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in names if not name.startswith(".") and not name.endswith("~")]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


async def run(path: str, event: Mapping[str, Any], limit: float) -> str:
    """Run one program for an event; returns what was wrong. After `limit` seconds it is killed.

    What it left in the background ends with it: not yet waited for, it keeps its number for its group.
    """
    try:
        pid = spawn(path, event)
        descriptor = watched(pid)
    except OSError as exc:
        return f"hook {path}: {exc.strerror}"
    try:
        await asyncio.wait_for(_readable(descriptor), limit)
    except asyncio.TimeoutError:
        kill(pid)
        await _readable(descriptor)
        return f"hook {path}: killed after {limit:.0f} s"
    finally:
        os.close(descriptor)
        kill(pid)
        status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return f"hook {path}: ended by signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    return f"hook {path}: ended with status {code}" if code else ""


def spawn(path: str, event: Mapping[str, Any]) -> int:
    """Start it with the event in its environment and, as JSON, on its standard input; what it says is logged."""
    environment = {f"MWAN_{name.upper()}": str(event.get(name) or "") for name in FIELDS}
    memory = os.memfd_create("event")
    try:
        os.write(memory, json.dumps(event).encode() + b"\n")
        os.lseek(memory, 0, os.SEEK_SET)
        # In the service, which is no module and has no run_command.
        return os.posix_spawn(  # pylint: disable=ansible-bad-function
            path,
            [path],
            {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, memory, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
            setpgroup=0,
            setsigmask=[],
            setsigdef=RESTORED,
        )
    finally:
        os.close(memory)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(descriptor, _end, ended)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
