# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""A router that is configured, watched by the prober, and has servers to talk to behind its links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .engine import Engine
from .prober import Prober
from .topology import Topology
from .traffic import AccessLogServer, EchoServer

# What most tests ask does not depend on how long a link must be stable before it returns.
BRISK = {"up_after": 1, "damping": {"longest": 1}}


@contextmanager
def watched(
    net: Topology, backend: str = "nftables", probe: dict[str, Any] | None = None, **variables: Any
) -> Iterator[Prober]:
    """All links are up when it begins. `probe` are settings of all links beside BRISK, `variables` the role's."""
    with Engine(net, backend) as engine, EchoServer(net.server), AccessLogServer(net.server):
        engine.apply(mwan_probe={**BRISK, **(probe or {})}, **variables)
        with Prober(net.router) as prober:
            for link in net.uplinks:
                prober.wait_for(link, "up")
            prober.wait_settled()
            yield prober


def happened(prober: Prober) -> list[str]:
    """All that the prober told of, in its order, but for the first state of each link: "isp_a up suspect", "hold"."""
    words = ("link", "before", "after")
    events = [event for event in prober.events() if event["before"] != "unknown"]
    return [" ".join(event[word] for word in words if event[word]) or event["event"] for event in events]
