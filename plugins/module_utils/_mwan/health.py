# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the prober says of each link: the runtime overlay on the desired state, never written by an administrator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .values import MAX_WEIGHT

STATES = ("unknown", "up", "degraded", "suspect", "down", "drained")
# No new connection is placed on a link in one of these states while another link takes it; its own table and its pins
# stay. With nothing better a suspect link takes new ones all the same (serving.py).
RESTING = frozenset(("suspect", "down", "drained"))


# Why the connections of a link are given up: it is down, or better links are back.
RELEASES = ("down", "failback")


@dataclass(frozen=True)
class Health:
    """State by link name, and by which word the connections of a link are released.

    A link without an entry is unknown, and presumed up; what is not released stays where it is. `weights`, by policy
    and link, follow the counts of connections where a policy asks for it.
    """

    states: Mapping[str, str] = field(default_factory=dict)
    released: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Any) -> Health:
        """Read health.json; what cannot be understood counts as unknown, because a link is presumed up."""
        links = data.get("links") if isinstance(data, Mapping) else None
        entries = links.items() if isinstance(links, Mapping) else ()
        known = [(name, entry) for name, entry in entries if isinstance(entry, Mapping)]
        return cls(_words(known, "state", STATES), _words(known, "released", RELEASES))

    def drained(self, links: Iterable[str]) -> Health:
        """The health with these links drained by an operator; one that is down stays so."""
        overlay = {link: "drained" for link in links if self.state(link) != "down"}
        return replace(self, states={**self.states, **overlay})

    def weighted(self, data: Any) -> Health:
        """The health with the weights of weights.json; what cannot be understood counts for nothing."""
        policies = data.get("policies") if isinstance(data, Mapping) else None
        entries = policies.items() if isinstance(policies, Mapping) else ()
        return replace(self, weights={name: _weights(entry) for name, entry in entries if isinstance(entry, Mapping)})

    def state(self, link: str) -> str:
        return self.states.get(link, "unknown")

    def kept_out(self) -> list[str]:
        """The links that the prober's word keeps out, whatever the operator says."""
        return [link for link, state in self.states.items() if state in ("suspect", "down")]

    def released_by(self, link: str) -> str | None:
        return self.released.get(link)


def last_word(link: str) -> str:
    """What to know of a link that is kept out when no prober runs to let it in again."""
    return (
        f"link {link} is kept out by the last word of a prober that does not run; start it (systemctl start mwan), "
        "or remove /run/mwan/health.json and run 'mwanctl restore'"
    )


def _weights(entry: Mapping[str, Any]) -> dict[str, int]:
    return {link: weight for link, weight in entry.items() if isinstance(weight, int) and 1 <= weight <= MAX_WEIGHT}


def _words(entries: Iterable[tuple[str, Mapping[str, Any]]], key: str, allowed: tuple[str, ...]) -> dict[str, str]:
    found = ((name, entry.get(key)) for name, entry in entries)
    return {name: str(word) for name, word in found if word in allowed}
