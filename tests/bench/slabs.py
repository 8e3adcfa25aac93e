# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What the kernel's allocator holds, by kind of object (slabinfo(5))."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

# name -> objects in use, and octets of each
Slabs = Mapping[str, tuple[int, int]]
GENERAL = "kmalloc-"
# The changes that a client each can make, among the changes of all else that runs on the machine.
LEAST, MOST = 0.5, 1.5


def read(path: str = "/proc/slabinfo") -> Slabs:
    return parsed(Path(path).read_text(encoding="ascii").splitlines())


def parsed(lines: Iterable[str]) -> Slabs:
    """Only what has no cache of its own; lines begin: name, active objects, objects, size of one."""
    words = (line.split() for line in lines if line.startswith(GENERAL))
    return {name: (int(active), int(size)) for name, active, _all, size, *_more in words}


def freed(before: Slabs, after: Slabs, clients: int) -> int:
    """Octets, of the kinds that there are less of by about as many as there are clients."""
    return sum(
        (active - after[name][0]) * size
        for name, (active, size) in before.items()
        if LEAST * clients < active - after[name][0] < MOST * clients
    )
