# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTTP target with a name: its address is asked for over the link now and then, beside the probing."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..probes import Binding, Probe, Sink, lookup, make

# seconds; names of well-known pages move rarely, and the last address is kept while nobody answers
REFRESH, RETRY = 300.0, 10.0


class NamedProbe:
    """Asks the address its name had last. Until it has had one, a silent resolver is a silent target."""

    def __init__(
        self, target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._target, self._binding, self._sink, self._loop = target, binding, sink, loop
        self._name = str(urlsplit(target["url"]).hostname)
        self._address = ""
        self._probe: Probe | None = None
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._follow())

    def send(self, seq: int) -> None:
        if self._probe:
            self._probe.send(seq)
        elif self._trouble:
            self._sink.failed(seq, self._trouble)

    def close(self) -> None:
        if self._task:
            self._task.cancel()
        if self._probe:
            self._probe.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH if await self._found() else RETRY)

    async def _found(self) -> bool:
        try:
            addresses = await lookup(self._name, self._target["resolver"], self._binding, self._loop)
        except (OSError, ValueError) as exc:
            silent = isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT
            self._trouble = "" if silent else f"{self._name} cannot be looked up: {exc}"
            return False
        if not addresses:
            self._trouble = f"{self._target['resolver']} knows no address of {self._name}"
            return False
        if self._address not in addresses:
            self._use(addresses[0])
        return True

    def _use(self, address: str) -> None:
        if self._probe:
            self._probe.close()
        self._address = address
        self._probe = make({**self._target, "address": address}, self._binding, self._sink, self._loop)
        self._probe.start()


def make_probe(target: Mapping[str, Any], binding: Binding, sink: Sink, loop: asyncio.AbstractEventLoop) -> Probe:
    """As probes.make, also for targets with a resolver."""
    return NamedProbe(target, binding, sink, loop) if target.get("resolver") else make(target, binding, sink, loop)
