# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A router that runs the prober, with links to fail and one more that takes over, and what the prober tells of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any

from ..lab.engine import Engine
from ..lab.prober import Prober
from ..lab.topology import Topology, many_links
from ..lab.traffic import EchoServer
from ..lab.watched import BRISK
from .rivals import Way


@contextmanager
def managed(topology: Topology, backend: str = "nftables", **variables: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """The router as the role leaves it; yields what there is to know of its links."""
    topology.variables.update(variables)
    with Engine(topology, backend) as engine:
        yield engine.apply().links


class Changes:
    """The changes of state since it began to listen, each with the monotonic time at which it was decided."""

    def __init__(self, prober: Prober) -> None:
        self._news = threading.Condition()
        self._heard: list[tuple[float, str, str]] = []
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(prober.connected())
        self._socket.settimeout(None)
        self._stream = self._stack.enter_context(self._socket.makefile("rw", encoding="utf-8"))
        self._stream.write(json.dumps({"command": "events", "follow": True}) + "\n")
        self._stream.flush()
        # The wall clock is read once: it may be set, and both are of this machine.
        self._offset = time.time() - time.monotonic()
        self._stream.readline()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._stream:
            event = json.loads(line)
            if event.get("event") == "state":
                when = datetime.fromisoformat(event["time"]).timestamp() - self._offset
                with self._news:
                    self._heard.append((when, event["link"], event["after"]))
                    self._news.notify_all()

    def first(self, link: str, state: str, since: float) -> float | None:
        found = (when for when, name, after in self._heard if (name, after) == (link, state) and when >= since)
        return next(found, None)

    def wait(self, link: str, state: str, since: float, patience: float) -> float | None:
        """When the link entered that state, at a time after `since`; None when it did not in so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self.first(link, state, since) is not None, patience)
            return self.first(link, state, since)

    def close(self) -> None:
        self._socket.shutdown(2)
        self._stack.close()


class Site:
    """link1, link2 .. fail, each alone; the last link does not, and takes over from all of them.

    What a client sends to `destinations(link)` leaves by that link, or by the last one when that does not serve. Links
    are watched by `profile`, and return soon.
    """

    def __init__(self, failing: int, profile: str = "default", backend: str = "nftables") -> None:
        self.profile = profile
        self._stack = ExitStack()
        try:
            self._build(failing, backend)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, failing: int, backend: str) -> None:
        enter = self._stack.enter_context
        self.net: Topology = enter(many_links(failing + 1))
        self.failing = list(self.net.uplinks)[:-1]
        self.spare = list(self.net.uplinks)[-1]
        self.links = enter(managed(self.net, backend, **self._variables()))
        enter(EchoServer(self.net.server))
        self.prober: Prober = enter(Prober(self.net.router))
        self.changes = Changes(self.prober)
        self._stack.callback(self.changes.close)
        for link in self.net.uplinks:
            self.prober.wait_for(link, "up")

    def _variables(self) -> dict[str, Any]:
        policies = [
            {"name": f"by_{link}", "members": [{"link": link, "tier": 1}, {"link": self.spare, "tier": 2}]}
            for link in self.failing
        ]
        rules = [
            {"name": f"to_{link}", "destination": self.prefix(link), "policy": f"by_{link}"} for link in self.failing
        ]
        return {
            "mwan_probe": {"profile": self.profile, **BRISK},
            "mwan_policies": [*self.net.variables["mwan_policies"], *policies],
            "mwan_rules": rules,
        }

    def prefix(self, link: str) -> str:
        return f"7.7.7.{16 * (1 + self.failing.index(link))}/28"

    def destinations(self, link: str) -> list[str]:
        first = 16 * (1 + self.failing.index(link))
        return [f"7.7.7.{first + number}" for number in range(16)]

    def way(self, link: str) -> Way:
        return Way.of(self.net, link, self.links)

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
