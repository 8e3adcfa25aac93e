# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Containers as the tools of tests/lab take their hosts: the clients, servers and failures of the namespaces' tests."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property
from random import randrange
from typing import Any

import lab

from tests.lab.host import FIRST_PORT, HELPERS, LAST_PORT, Host
from tests.lab.prober import Prober


class Container(Host):
    """A container by its inventory name. Make it anew after a reboot.

    Commands run in its network and mount namespaces; helpers in its network alone, with this machine's Python and
    files.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.lab = "molecule"
        # not where an earlier run began: connections of that may be known to the router still
        self._next_port = randrange(FIRST_PORT, LAST_PORT // 2)
        self._processes: list[subprocess.Popen[str]] = []

    @cached_property
    def pid(self) -> int:
        return lab.process(self.name)

    def helper(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        command = ["nsenter", f"--target={self.pid}", "--net", "--", sys.executable, "-I", str(HELPERS / script)]
        return subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )


class Service(Prober):
    """The prober as systemd runs it; nothing is started or stopped. Events are those since it was constructed."""

    def __init__(self, router: Container) -> None:
        self.host = router
        self._earlier = len(super().events())

    @property
    def pid(self) -> int:
        """In the container; 0 while there is none."""
        return int(self.unit("MainPID"))

    def unit(self, name: str) -> str:
        """A property of the unit."""
        return lab.run(self.host.name, "systemctl show mwan.service --property=%s --value", name).strip()

    def events(self) -> list[dict[str, Any]]:
        return super().events()[self._earlier :]

    def log(self) -> str:
        return lab.run(self.host.name, "journalctl --unit=mwan.service --lines=50 --no-pager")
