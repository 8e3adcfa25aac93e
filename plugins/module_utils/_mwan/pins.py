# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the pins of each link mean now: what a run has to know of connections that earlier runs have dealt with.

It is kept in /run, as long-lived as the connections: after a reboot nothing is known, and nothing need be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from . import values
from .document import Document
from .errors import InputError
from .health import RELEASES
from .kernel import OTHERS, UNANSWERED, Facts, Marked, Pin
from .released import DOWN, KEPT, Release
from .resolve import ResolvedLink


def parse(content: str | None) -> dict[str, Pin]:
    """The pins by link, from the file's content; what cannot be understood is not known."""
    try:
        data = json.loads(content or "null")
    except ValueError:
        return {}
    links = data.get("links") if isinstance(data, dict) else None
    found = {name: _pin(entry) for name, entry in links.items()} if isinstance(links, dict) else {}
    return {name: pin for name, pin in found.items() if pin}


def _pin(entry: Any) -> Pin | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("sources"), list):
        return None
    try:
        mark = values.integer("mark", entry.get("mark"), 1, 0xFFFFFFFF)
        sources = tuple(values.address("sources", source) for source in entry["sources"])
    except InputError:
        return None
    reset, flushed = (entry.get(key) if entry.get(key) in RELEASES else "" for key in ("reset", "flushed"))
    return Pin(mark, sources, str(reset), str(flushed))


def text(pins: Mapping[str, Pin]) -> str | None:
    """The content that `parse` understands; None, no file, where there are no pins."""
    links = {name: {**vars(pin), "sources": list(pin.sources)} for name, pin in sorted(pins.items())}
    return json.dumps({"links": links}, indent=2) + "\n" if links else None


def wanted(
    document: Document,
    links: Mapping[str, ResolvedLink],
    facts: Facts,
    releases: Mapping[str, Release],
    known: Mapping[str, Pin],
) -> dict[str, Pin]:
    """What the pins of each link shall mean; `known` is what they have meant until now."""
    found = {}
    for name, link in links.items():
        mark, release = document.settings.mark(link.ident), releases.get(name, KEPT)
        sources = _sources(link, facts, _known(known, name, mark).sources)
        found[name] = Pin(mark, sources, release.reset, release.reroute)
    return found


def _known(pins: Mapping[str, Pin], name: str, mark: int) -> Pin:
    """What is known under a mark that is not the link's any more is not known."""
    pin = pins.get(name)
    return pin if pin and pin.mark == mark else Pin(mark)


def _sources(link: ResolvedLink, facts: Facts, before: tuple[str, ...]) -> tuple[str, ...]:
    """The address of the link, and former ones that its device still has.

    What a link without an address had stays: it may come back with it, or with another.
    """
    if link.pending or not link.address:
        return before
    present = {item.address for item in facts.addresses_of(link.device)}
    return tuple(sorted({link.address, *(present & set(before))}))


def forgotten(before: Mapping[str, Pin], after: Mapping[str, Pin], mask: int) -> Iterator[Marked]:
    """The connections that must begin anew: of addresses that are gone, and of links that are given up."""
    for name, pin in sorted(after.items(), key=lambda item: item[1].mark):
        old = _known(before, name, pin.mark)
        for source in old.sources:
            if source not in pin.sources:
                yield Marked(pin.mark, mask, address=source)
        if pin.flushed not in ("", old.flushed):
            # who came in by the link knows no other way to us
            yield Marked(pin.mark, mask, OTHERS, spared=pin.sources)
        if pin.reset == DOWN != old.reset:
            yield Marked(pin.mark, mask, UNANSWERED)
