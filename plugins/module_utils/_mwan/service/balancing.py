# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the helper of least_connections running: while a queue is listed, and only one that answers.

Without it nothing fails: the firewall's rules pass over a queue that nobody answers for, and the policy's multipath
route takes the connection. One that is there and does not answer is worse, because it holds what is in its queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from ..balance import roster
from ..balance.helper import QUESTION
from ..errors import KernelError
from ..layout import BALANCE
from ..ports import FilePort
from ..probes.command import RESTORED, SEARCH_PATH, kill, watched
from .journal import Journal

# seconds between two questions, and for an answer
ASK, PATIENCE = 0.5, 2.0
# seconds until it is started again, doubled each time it ends before it has run for the longest pause
PAUSE, LONGEST_PAUSE = 0.1, 30.0
# seconds to end by itself
FAREWELL = 1.0
MOST_BYTES = 1 << 16
# what the journal needs to know, and where the library is when that is not beside the program
PASSED_ON = ("JOURNAL_STREAM", "PYTHONPATH")


class Child:
    """One run of the helper. `ended` is called with what became of it, once; raises OSError when it does not start."""

    def __init__(self, command: Sequence[str], ended: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        self._ended, self._loop = ended, loop
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        try:
            with theirs:
                self.pid = _spawn(command, theirs.fileno())
            self._descriptor = watched(self.pid)
        except OSError:
            self._channel.close()
            raise
        self.began = loop.time()
        self.report: dict[str, Any] = {}
        self._asked: float | None = None
        self.silent = False
        self.over = loop.create_future()
        loop.add_reader(self._channel.fileno(), self._hear)
        loop.add_reader(self._descriptor, self._reap)
        self._timer = loop.call_soon(self._ask)

    def _ask(self) -> None:
        """And see to it that the question before was answered."""
        now = self._loop.time()
        if self._asked is None:
            self.say(QUESTION)
            self._asked = now
        elif now >= self._asked + PATIENCE:
            self.silent = True
            kill(self.pid)
        self._timer = self._loop.call_later(ASK, self._ask)

    def say(self, what: bytes) -> None:
        """One that does not listen will be killed for that."""
        with suppress(OSError):
            self._channel.send(what)

    def _hear(self) -> None:
        try:
            answer = self._channel.recv(MOST_BYTES)
        except OSError:
            answer = b""
        if answer:
            self._asked, self.report = None, json.loads(answer)
        else:
            self._loop.remove_reader(self._channel.fileno())

    def hang_up(self) -> None:
        """It answers what waits, and ends; one that does not is killed."""
        self._close()
        self._timer = self._loop.call_later(FAREWELL, kill, self.pid)

    def _close(self) -> None:
        self._timer.cancel()
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()

    def _reap(self) -> None:
        self._close()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        status = os.waitpid(self.pid, 0)[1]
        self.over.set_result(None)
        self._ended(f"did not answer for {PATIENCE:.0f} s and was killed" if self.silent else _words(status))


def _spawn(command: Sequence[str], descriptor: int) -> int:
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # In the service, which is no module and has no run_command.
    return os.posix_spawn(  # pylint: disable=ansible-bad-function
        command[0],
        list(command),
        {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **passed_on},
        file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
        setpgroup=0,
        setsigmask=[],
        setsigdef=RESTORED,
    )


def _words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was ended by signal {os.WTERMSIG(status)}"
    return f"ended with status {os.WEXITSTATUS(status)}"


class Balancing:
    """`command` starts the helper; without one there is none to be kept."""

    def __init__(
        self, command: Sequence[str], files: FilePort, journal: Journal, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._command, self._files, self._journal, self._loop = command, files, journal, loop
        self._child: Child | None = None
        self._wanted = self._closed = False
        self._pause, self._restarts = PAUSE, 0
        self._shunned: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Have it run while there is something to answer for."""
        wanted = bool(self._command) and not self._closed and self._listed()
        if wanted == self._wanted:
            return
        self._wanted, self._pause = wanted, PAUSE
        if wanted and not self._child:
            self._start()
        elif not wanted:
            self._stop()

    def shun(self, links: Collection[str]) -> None:
        """Have it choose none of these links from now on; the file says the same some ten milliseconds later."""
        wanted = sorted(links)
        if wanted != self._shunned:
            self._shunned = wanted
            if self._child:
                self._child.say(json.dumps(wanted).encode())

    def _listed(self) -> bool:
        """What cannot be read is left as it is; the helper says what is wrong with it."""
        try:
            return bool(roster.parse(self._files.read(BALANCE)).queues)
        except (ValueError, KernelError):
            return self._wanted

    def _start(self) -> None:
        self._timer = None
        try:
            self._child = Child(self._command, self._ended, self._loop)
            self._child.say(json.dumps(self._shunned).encode())
        except OSError as exc:
            self._ended(f"could not be started: {exc.strerror}")

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._child:
            self._child.hang_up()

    def _ended(self, why: str) -> None:
        lived = self._loop.time() - self._child.began if self._child else 0.0
        self._child = None
        if not self._wanted:
            return
        if lived >= LONGEST_PAUSE:
            self._pause = PAUSE
        self._journal.warning(
            f"mwan-balance {why}; new connections are spread by weight until it is back, in {self._pause:g} s"
        )
        self._restarts += 1
        self._timer = self._loop.call_later(self._pause, self._start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def status(self) -> dict[str, Any] | None:
        """None while there is nothing to do for it."""
        if not self._wanted:
            return None
        child = self._child
        return {
            "running": bool(child and child.report),
            "pid": child.pid if child else None,
            "restarts": self._restarts,
            **(child.report if child else {}),
        }

    async def close(self) -> None:
        """End it, and wait until it has ended."""
        self._closed, child = True, self._child
        self.look()
        if child:
            await child.over
