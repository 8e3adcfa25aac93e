# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the control socket tells of each link: the watch's figures, with what else is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..resolve import ResolvedLink
from .overlay import Overlay


def links(
    snapshot: Mapping[str, Mapping[str, Any]],
    resolved: Mapping[str, ResolvedLink],
    overlay: Overlay,
    drained: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Each link's entry of the snapshot (watch.report), and in it:

    `state` with the operator's word, and `probed` without; `reason` and `since_wall` (seconds since the epoch), which
    outlive the process; `released`; `drained`, None or when and why; `device`, `address` and `via`, its gateway's
    address, as they are now; `pending`, what is missing.
    """
    health = overlay.health()
    found = {}
    for name, entry in snapshot.items():
        link, known = resolved[name], overlay.entry(name)
        found[name] = {
            **entry,
            "state": health.state(name),
            "probed": entry["state"],
            "reason": known.reason,
            "since_wall": known.since,
            "released": known.released,
            "drained": drained.get(name),
            "device": link.device,
            "address": link.address,
            "via": link.gateway,
            "pending": link.pending,
        }
    return found


def summary(states: Mapping[str, str], problem: str) -> str:
    """One line for the service manager."""
    if problem:
        return f"The stored document cannot be used: {problem}"
    bad = [f"{name} {state}" for name, state in states.items() if state not in ("up", "unknown")]
    return f"{len(states)} links" + (f", {', '.join(bad)}" if bad else ", all well" if states else "")
