# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""What a router opens itself: as somebody, in a control group, bound to something, and where the server saw it from."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .host import Host
from .topology import SERVER
from .traffic import ECHO_PORT, Helper

CGROUP = "/sys/fs/cgroup"


class Own(Helper):
    """A process on a host that opens connections to EchoServers."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "own.py")

    def seen(
        self,
        number: int = 4,
        *,
        protocol: str = "tcp",
        destination: str = SERVER,
        port: int = ECHO_PORT,
        user: int | None = None,
        group: int | None = None,
        cgroup: Path | None = None,
        source: str | None = None,
        device: str | None = None,
        mark: int | None = None,
        tos: int | None = None,
        timeout: float = 1.5,
    ) -> dict[str, int]:
        """How many of `number` connections the server saw from each address; or the name of their error."""
        job = {
            "number": number, "protocol": protocol, "destination": destination, "port": port, "timeout": timeout,
            "user": user, "group": group, "cgroup": cgroup and str(cgroup),
            "source": source, "device": device, "mark": mark, "tos": tos,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return dict(Counter(json.loads(self._process.stdout.readline())))


@contextmanager
def control_group(host: Host, root: str = CGROUP) -> Iterator[Path]:
    """A new group of the version 2 hierarchy, mounted in the host at `root`; skips the test where it cannot be made.

    Groups know no namespaces: it is one of the machine, gone at the end.
    """
    path = Path(root, f"mwan-test-{os.getpid()}")
    mount = f"mkdir -p {root} && mount -t cgroup2 none {root} && mkdir {path}"
    above = f"mount -t tmpfs none {CGROUP} && " if root != CGROUP else ""
    tried = host.run(above + mount, check=False)
    if tried.returncode:
        pytest.skip(f"no control group can be made here: {tried.stderr.strip()}")
    try:
        yield path
    finally:
        host.run(f"rmdir {path}", check=False)
