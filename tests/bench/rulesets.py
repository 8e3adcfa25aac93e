# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Lists of rules to measure. Pure.

No packet of the benchmark matches any of them, so whatever looks at one rule after the other looks at all.
"""

from __future__ import annotations

from typing import Any

LINKS = ("link1", "link2")
# Of more rules than this, policy routing gets two networks each: there is one priority for each rule, and not 1000.
MOST_SINGLE = 500
PORTS = 8000


def sources(number: int, device: str | None = None) -> list[dict[str, Any]]:
    """One network each, to one link or the other; with `device` they are asked of what comes in there only."""
    where = {"device": device} if device else {}
    return [_rule(place, source=_network(place), **where) for place in range(number)]


def paired(number: int, device: str | None = None) -> list[dict[str, Any]]:
    """The same networks, two to a rule where there are many; for policy routing these are as many rules as ever.

    Not neighbours, which would be one network.
    """
    if number <= MOST_SINGLE:
        return sources(number, device)
    where = {"device": device} if device else {}
    half = number // 2
    return [_rule(place, source=[_network(place), _network(place + half)], **where) for place in range(half)]


def mixed(number: int, device: str | None = None) -> list[dict[str, Any]]:
    """What a router of an office has, as such lists grow: ten networks, ten servers, ten services, and so on."""
    return _kinds(number, device, together=10)


def alternating(number: int, device: str | None = None) -> list[dict[str, Any]]:
    """The same in the worst order: no rule is like the one before it."""
    return _kinds(number, device, together=1)


def _kinds(number: int, device: str | None, together: int) -> list[dict[str, Any]]:
    where = {"device": device} if device else {}
    return [_rule(place, **_match(place, place // together), **where) for place in range(number)]


def _match(place: int, kind: int) -> dict[str, Any]:
    kinds: tuple[dict[str, Any], ...] = (
        {"source": _network(place)},
        {"destination": _network(place, "198.18")},
        {"protocol": "udp", "destination_port": str(PORTS + place)},
        {"source": _network(place), "protocol": "tcp", "destination_port": f"{PORTS + place}-{PORTS + place + 9}"},
    )
    return kinds[kind % len(kinds)]


def _network(place: int, first: str = "172.16") -> str:
    """A /27, of which one /16 has 2048."""
    return f"{first}.{place // 8}.{place % 8 * 32}/27"


def _rule(place: int, **match: Any) -> dict[str, Any]:
    return {"name": f"rule{place}", "link": LINKS[place % len(LINKS)], **match}
