# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

"""An external command as a probe.

Started with posix_spawn and awaited through a pidfd: the event loop's own subprocesses take a thread for each one up to
Python 3.11.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from .attempts import PATIENCE, Attempts
from .binding import Binding, Sink, reason

MOST_RUNNING = 4
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What Python ignores, and every program expects not to be.
RESTORED = [signal.SIGPIPE, signal.SIGXFSZ]


class CommandProbe:
    """Exit status 0 is a reply, another one is refused(). A command that could not start or was killed by a signal
    says nothing of the path and failed(), as does one too many while slow ones still run. After `limit` seconds it is
    killed, with all its process group: silence.

    Its environment is PATH, LC_ALL and MWAN_DEVICE, MWAN_ADDRESS (empty: the kernel chooses) and MWAN_MARK (decimal);
    it must use all three. Needs Linux 5.3.
    """

    def __init__(
        self,
        command: Sequence[str],
        binding: Binding,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        *,
        limit: float = PATIENCE,
    ) -> None:
        if not command:
            raise ValueError("command: at least the name of a program is needed")
        self.command = list(command)
        self.sink = sink
        self.loop = loop
        self.environment = {
            "PATH": SEARCH_PATH,
            "LC_ALL": "C.UTF-8",
            "MWAN_DEVICE": binding.device,
            "MWAN_ADDRESS": binding.source or "",
            "MWAN_MARK": str(binding.mark),
        }
        self.attempts = Attempts(loop, limit, MOST_RUNNING)

    def start(self) -> None:
        """Nothing to prepare."""

    def send(self, seq: int) -> None:
        if self.attempts.full:
            self.sink.failed(seq, f"{MOST_RUNNING} of the command still run")
            return
        try:
            pid = self._spawn()
            descriptor = watched(pid)
        except OSError as error:
            self.sink.failed(seq, reason(error))
            return
        self.loop.add_reader(descriptor, self._ended, seq, pid, descriptor)
        self.attempts.add(seq, partial(self._give_up, pid, descriptor))

    def close(self) -> None:
        self.attempts.stop_all()

    def _spawn(self) -> int:
        # In the service, which is no module and has no run_command.
        return os.posix_spawnp(  # pylint: disable=ansible-bad-function
            self.command[0],
            self.command,
            self.environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
            setsigmask=[],
            setsigdef=RESTORED,
        )

    def _give_up(self, pid: int, descriptor: int) -> None:
        """Killed, it is reaped when it is gone: one in an uninterruptible wait must not hold up the loop."""
        kill(pid)
        self.loop.remove_reader(descriptor)
        self.loop.add_reader(descriptor, self._reap, pid, descriptor)

    def _reap(self, pid: int, descriptor: int) -> int:
        self.loop.remove_reader(descriptor)
        os.close(descriptor)
        return os.waitpid(pid, 0)[1]

    def _ended(self, seq: int, pid: int, descriptor: int) -> None:
        when = self.loop.time()
        status = self._reap(pid, descriptor)
        self.attempts.ended(seq)
        if os.WIFSIGNALED(status):
            self.sink.failed(seq, f"the command was killed by signal {os.WTERMSIG(status)}")
        elif os.WEXITSTATUS(status) == 0:
            self.sink.replied(seq, when)
        else:
            self.sink.refused(seq, when, f"the command ended with status {os.WEXITSTATUS(status)}")


def watched(pid: int) -> int:
    """A descriptor that is readable when the child has ended; where there is none (OSError), the child is ended."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        kill(pid)
        os.waitpid(pid, 0)
        raise


def kill(pid: int) -> None:
    """Its whole process group, which it leads."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
