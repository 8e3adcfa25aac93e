# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the command line reads of the router, through its ports, and of the prober."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import flow, store, traffic
from ..desired import compile_state
from ..document import Document
from ..drains import check_link
from ..errors import InputError, KernelError
from ..explain import Question, View, explain
from ..health import Health
from ..ports import FilePort, Router
from . import control
from .status import Picture


def picture(router: Router, connections: traffic.Connections, now: float) -> Picture:
    """The router at this moment; raises InputError and KernelError."""
    document, health = store.load_document(router.files), store.load_health(router.files)
    facts = router.facts(document)
    prober, silent = _prober()
    written = _written(router.files)
    return Picture(
        document=document,
        desired=compile_state(document, facts, health),
        facts=facts,
        health=health,
        now=now,
        told=_told(written),
        written=written.get("written"),
        drained=store.load_drained(router.files),
        prober=prober,
        silent=silent,
        octets=traffic.octets(router.files),
        connections=counted(connections, document),
    )


def answer(router: Router, question: Question, down: Sequence[str], option: str) -> dict[str, Any]:
    """Where the connection would go, with some links down; raises InputError (of `option`: the links) and KernelError.

    An answer about what should be is worth less where something else is, and that is told with it.
    """
    found = explain(question, view(router, question, down, option))
    return {**found, "notes": [*found["notes"], *_drifted(router)]}


def view(router: Router, question: Question, down: Sequence[str], option: str) -> View:
    """The router as it shall be now, or would be with some links down; raises InputError and KernelError."""
    document, health = store.load_document(router.files), store.load_health(router.files)
    for name in down:
        check_link(document, option, name)
    asked = dict.fromkeys(down, "down")
    health = replace(health, states={**health.states, **asked})
    facts = router.facts(document)
    return View(
        document=document,
        desired=compile_state(document, facts, health),
        facts=facts,
        health=health,
        surroundings=router.routing.surroundings(),
        reasons={**_reasons(router.files, health), **dict.fromkeys(asked, "as asked")},
        accounts=router.look_up(question.wanted()),
    )


def _drifted(router: Router) -> list[str]:
    try:
        drifted = flow.converge(router, lambda stored: stored, check=True, strict=False).changed
    except (InputError, KernelError) as exc:
        return [f"whether the router is as it should be cannot be told: {exc}"]
    return ["the router is not as it should be (see 'mwanctl diff'); this is how it should be"] if drifted else []


def _prober() -> tuple[Mapping[str, Any] | None, str | None]:
    """Its answer, or what else than not running keeps it from giving one."""
    try:
        return control.ask({"command": "status"}), None
    except control.NotRunningError:
        return None, None
    except KernelError as exc:
        return None, f"does not answer ({exc.reason})"


def _written(files: FilePort) -> Mapping[str, Any]:
    try:
        data = json.loads(files.read(store.HEALTH) or "null")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _told(written: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    links = written.get("links")
    found = links.items() if isinstance(links, dict) else ()
    return {name: entry for name, entry in found if isinstance(entry, dict)}


def _reasons(files: FilePort, health: Health) -> dict[str, str]:
    told = {name: str(entry.get("reason") or "") for name, entry in _told(_written(files)).items()}
    drained = {name: str(entry.get("why") or "by hand") for name, entry in store.load_drained(files).items()}
    return {**told, **{name: why for name, why in drained.items() if health.state(name) == "drained"}}


def counted(connections: traffic.Connections, document: Document) -> Mapping[int, int] | None:
    """Connections by mark, None where they cannot be counted."""
    try:
        return connections.by_mark(document.settings.mark_mask)
    except KernelError:
        return None
