# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the prober says of each link: the runtime overlay on the desired state, never written by an administrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATES = ("unknown", "up", "degraded", "suspect", "down", "drained")
# No new connection is placed on a link in one of these states; its own table and its pins stay.
RESTING = frozenset(("suspect", "down", "drained"))


@dataclass(frozen=True)
class Health:
    """State by link name. A link without an entry is unknown, and presumed up."""

    states: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Any) -> Health:
        """Read health.json; what cannot be understood counts as unknown, because a link is presumed up."""
        links = data.get("links") if isinstance(data, Mapping) else None
        entries = links.items() if isinstance(links, Mapping) else ()
        found = {name: entry.get("state") for name, entry in entries if isinstance(entry, Mapping)}
        return cls({name: state for name, state in found.items() if state in STATES})

    def state(self, link: str) -> str:
        return self.states.get(link, "unknown")

    def takes_new(self, link: str) -> bool:
        """Whether new connections may be placed on the link."""
        return self.state(link) not in RESTING
