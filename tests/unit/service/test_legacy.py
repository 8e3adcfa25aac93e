# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Legacy tables, of which the kernel tells nobody: looked at each second, and after our own work."""

from __future__ import annotations

import asyncio

from _mwan.errors import KernelError
from _mwan.service.ruleset import LOOK, LegacyMonitor
from unit.service.world import VirtualLoop


class Tables:
    """Their sizes, and how often a change of them was told."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.size: int | None = 10
        self.looks = self.told = 0
        self.monitor = LegacyMonitor(self.loop, self.sizes)
        self.monitor.start(self.tell)

    def sizes(self) -> object:
        self.looks += 1
        if self.size is None:
            raise KernelError("inspect", "iptables table nat", "Operation not permitted")
        return {"nat": (self.size, 8 * self.size)}

    def tell(self) -> None:
        self.told += 1

    def run(self, seconds: float) -> int:
        """How often a change was told until then."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        return self.told


def test_what_others_change_is_told_once_within_a_second() -> None:
    tables = Tables()
    assert (tables.run(5), tables.looks) == (0, 0), "another backend: asking would create the tables"
    tables.monitor.watch(True)
    tables.monitor.watch(True)
    assert (tables.run(10.5), tables.looks) == (0, 11)
    tables.size = 3
    assert tables.run(LOOK) == 1
    assert tables.run(10) == 1
    tables.monitor.watch(False)
    tables.size = 4
    assert tables.run(10) == 1
    tables.monitor.watch(True)
    assert tables.run(10) == 1, "what happened meanwhile was not watched"


def test_our_own_changes_are_not_told() -> None:
    tables = Tables()
    tables.monitor.watch(True)
    tables.run(0.5)
    tables.size = 12
    assert tables.monitor.look()
    assert tables.run(10) == 0


def test_who_may_not_look_is_not_troubled() -> None:
    tables = Tables()
    tables.size = None
    tables.monitor.watch(True)
    assert tables.run(3) == 0
    tables.size = 10
    assert tables.run(3) == 0
    tables.size = 11
    assert tables.run(LOOK) == 1
