# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a router does what was declared: nothing drifts, and the prober watches the declared links."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from ._mwan import inspection, local
from ._mwan.console.control import NotRunningError, ask
from ._mwan.errors import KernelError
from ._mwan.ports import Router

# Seconds. The prober takes a new document within one, and repairs by then what a kernel event has begun.
PATIENCE = 5.0
PAUSE = 0.2


def settled(router: Router, service: bool) -> dict[str, Any]:
    """What `inspect` finds once there is no problem any more, or with those that last; and what the prober says."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = {**inspection.inspect(router), **(_prober() if service else {})}
        if not problems(found) or time.monotonic() > deadline:
            return found
        time.sleep(PAUSE)


def _prober() -> dict[str, Any]:
    try:
        status = ask({"command": "status"})
    except NotRunningError:
        return {"prober": None}
    except KernelError as exc:
        return {"prober": {"links": {}, "trouble": str(exc)}}
    links = {name: link["state"] for name, link in status["links"].items()}
    return {"prober": {"links": links, "outdated": os.path.lexists(local.RESTART)}}


def problems(found: dict[str, Any]) -> list[str]:
    drift = found["drift"]
    told = [f"it differs by {len(drift)} operations, such as {drift[0]}"] if drift else []
    return told + list(_of_prober(found["prober"], set(found["links"])) if "prober" in found else ())


def _of_prober(prober: dict[str, Any] | None, links: set[str]) -> Iterator[str]:
    if prober is None:
        yield "the prober does not run, so nobody watches the links; see: journalctl -u mwan"
    elif "trouble" in prober:
        yield f"the prober does not answer: {prober['trouble']}"
    elif set(prober["links"]) != links:
        differing = ", ".join(sorted(set(prober["links"]) ^ links))
        yield f"the prober does not watch what is declared, but differs in {differing}; see: journalctl -u mwan"
    elif prober.get("outdated"):
        yield "the prober runs what was installed before; run the role, or systemctl daemon-reload and restart mwan"


def out_of_service(found: dict[str, Any]) -> list[str]:
    """Links that cannot carry anything now."""
    words = {name: link["pending"] or link["health"] for name, link in found["links"].items()}
    down = {name for name, link in found["links"].items() if link["pending"] or link["health"] == "down"}
    return [f"link {name} is out of service: {words[name]}" for name in sorted(down)]
