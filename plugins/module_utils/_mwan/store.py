# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is remembered on the router: the document, the prober's and the operator's word on health, the live firewall."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import layout, pins
from .document import Document
from .errors import InputError
from .firewall.model import Firewall
from .health import Health
from .kernel import Pin
from .ports import FilePort, FirewallPort

DOCUMENT = "/etc/mwan/mwan.json"
HEALTH = "/run/mwan/health.json"
# outlives a reboot: who drained a link wants it to stay so
DRAINED = "/var/lib/mwan/drained.json"
FIREWALL = "/run/mwan/firewall.json"
# What of the document the router finds out by itself. The prober writes here, but not what was declared.
KEPT = "/var/lib/mwan/kept/kept.json"
OWN = ("originals", "backend")
PRIVATE = 0o640


def load_document(files: FilePort) -> Document:
    """The stored document, an empty one where there is none; raises InputError when the file cannot be understood.

    Before KEPT had a file of its own, its keys stood in the document.
    """
    text = files.read(DOCUMENT)
    try:
        data = json.loads(text or "{}")
    except ValueError as exc:
        remedy = "Restore the file, or remove it and run the playbook again"
        raise InputError(DOCUMENT, str(text)[:40], f"is not JSON ({exc})", remedy) from exc
    return Document.parse({**data, **_kept(files)} if isinstance(data, dict) else data, DOCUMENT)


def _kept(files: FilePort) -> dict[str, Any]:
    """What the router keeps for itself; what cannot be understood is not known."""
    data = _json(files.read(KEPT))
    kept = {key: data[key] for key in OWN if key in data} if isinstance(data, dict) else {}
    try:
        Document.parse(kept)
    except InputError:
        return {}
    return kept


def declared_text(document: Document) -> str:
    """What a person declared and the ids it has, without what the router keeps for itself."""
    return _text({key: value for key, value in document.dump().items() if key not in OWN})


def stored_files(document: Document) -> dict[str, str | None]:
    """The content of the files by path; what says nothing has no file."""
    empty = Document()
    declared = replace(document, originals=empty.originals, backend=empty.backend)
    kept = {key: value for key, value in document.dump().items() if key in OWN and value}
    return {
        KEPT: _text(kept) if kept else None,
        DOCUMENT: None if declared == empty else declared_text(document),
    }


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def load_health(files: FilePort) -> Health:
    """The prober's word, and over it the operator's; and the weights that follow the counts of connections."""
    weights = _json(files.read(layout.WEIGHTS))
    return Health.parse(_json(files.read(HEALTH))).drained(load_drained(files)).weighted(weights)


def load_drained(files: FilePort) -> dict[str, dict[str, Any]]:
    """The drained links, with since when and why; a file that cannot be understood drains none."""
    data = _json(files.read(DRAINED))
    links = data.get("links") if isinstance(data, dict) else None
    return {name: entry for name, entry in links.items() if isinstance(entry, dict)} if isinstance(links, dict) else {}


def save_drained(files: FilePort, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Remember the drained links, each as {"since": "ISO time", "why": "text"}; no file for none."""
    text = json.dumps({"links": {name: dict(entry) for name, entry in sorted(data.items())}}, indent=2) + "\n"
    files.write(DRAINED, text if data else None)


def load_pins(files: FilePort) -> dict[str, Pin]:
    """What is known of the connections of each link; nothing after a boot, or of a file that cannot be understood."""
    return pins.parse(files.read(layout.PINS))


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def live_firewall(files: FilePort, port: FirewallPort) -> str:
    """The text our live rules were loaded from when they still are as the kernel listed them then, else their listing.

    Comparing two listings of the same kernel and the same tool needs no knowledge of how they spell a rule.
    """
    listing = port.listing()
    loaded = recorded_firewall(files)
    return loaded.text if listing and (loaded.backend, loaded.listing) == (port.name, listing) else listing


@dataclass(frozen=True)
class Loaded:
    """What was loaded last: our text, and how the kernel listed it then."""

    backend: str = ""
    text: str = ""
    listing: str = ""


def recorded_firewall(files: FilePort) -> Loaded:
    record = _json(files.read(FIREWALL))
    if not isinstance(record, dict):
        return Loaded()
    return Loaded(*(str(record.get(key, "")) for key in ("backend", "text", "listing")))


def known_neighbours(files: FilePort) -> dict[tuple[str, str], str]:
    """The link-layer addresses of gateways by (device, address) that the live firewall was loaded with.

    A gateway that does not answer for a while keeps its address here, so that an outage is not taken for a change.
    """
    record = _json(files.read(FIREWALL))
    listed = record.get("neighbours", ()) if isinstance(record, dict) else ()
    return {(device, gateway): mac for device, gateway, mac in listed}


def record_firewall(files: FilePort, port: FirewallPort, firewall: Firewall) -> None:
    """Remember what was loaded, how the kernel lists it, and the neighbours it was made with."""
    if not firewall:
        known = _json(files.read(FIREWALL))
        if isinstance(known, dict) and known.get("backend") == port.name:
            files.write(FIREWALL, None)
        return
    record = {
        "backend": port.name,
        "text": port.render(firewall),
        "listing": port.listing(),
        "neighbours": [(link.device, link.gateway, link.mac) for link in firewall.shared() if link.mac],
    }
    files.write(FIREWALL, json.dumps(record), PRIVATE)
