# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass over the router, in a thread: write the health document, lead new connections away, then the whole flow."""

from __future__ import annotations

import json
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from .. import flow, store
from ..apply import ApplyError, execute
from ..desired import compile_state, table_names
from ..document import Document
from ..errors import InputError, KernelError
from ..firewall.model import Firewall
from ..health import Health
from ..kernel import Facts, State
from ..plan import LoadedFirewall, Operation, make_plan
from ..ports import FilePort, Router

NO_FIREWALL = LoadedFirewall(Firewall(mask=0), "")
TROUBLES = (InputError, KernelError, ApplyError, OSError)


@dataclass(frozen=True)
class Order:
    """What a pass starts from. `steer`: a link stopped taking new connections, so that leading them away comes first.

    `document` stands in for a stored one that cannot be used.
    """

    health_document: dict[str, Any]
    health: Health
    document: Document
    facts: Facts
    steer: bool


@dataclass(frozen=True)
class Result:
    """What a pass did. `trouble` is empty when it succeeded; times are seconds.

    `loaded`: the firewall rules were loaded anew. `state` has the routes and rules that are set now, None where that
    is not known. `where` shows where a mistake of ours happened.
    """

    actions: list[str] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    trouble: str = ""
    loaded: bool = False
    state: State | None = None
    where: str = ""


class Converging:
    """Used by one thread at a time."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._set: State | None = None

    def run(self, order: Order) -> Result:
        """Raises nothing: what went wrong is in the result."""
        begun = time.monotonic()
        actions: list[str] = []
        try:
            self._router.files.write(store.HEALTH, json.dumps(order.health_document, indent=1) + "\n")
            if order.steer and self._set:
                actions += self._steer(self._set, order)
            outcome = self._converge(order.document)
        except TROUBLES as exc:
            self._set = None
            return Result(actions, seconds=time.monotonic() - begun, trouble=str(exc))
        except Exception as exc:
            # a mistake of ours must not end the watching; the journal shows where it is
            self._set = None
            trouble, where = f"{type(exc).__name__}: {exc}", traceback.format_exc()
            return Result(actions, seconds=time.monotonic() - begun, trouble=trouble, where=where)
        self._set = compiled(outcome.document, order)
        loaded = any(action.endswith(" rules") for action in outcome.actions)
        seconds = time.monotonic() - begun
        return Result([*actions, *outcome.actions], outcome.warnings, seconds, "", loaded, self._set)

    def _steer(self, before: State, order: Order) -> list[str]:
        """The policies' routes alone, in the planner's order: what the flow would do some ten milliseconds later.

        What fails here the flow meets again, and tells.
        """
        done = []
        with self._router.lock() if self._router.lock else nullcontext():
            for operation in steering(before, compiled(order.document, order), order.document):
                try:
                    execute(self._router, operation)
                except KernelError:
                    break
                done.append(operation.describe(table_names(order.document)))
        return done

    def _converge(self, held: Document) -> flow.Outcome:
        router = self._router
        try:
            store.load_document(router.files)
        except InputError:
            router = replace(router, files=HeldFiles(router.files, store.document_text(held)))
        return flow.converge(router, lambda stored: stored, strict=False)


class HeldFiles:
    """The files, with another text for the document, which is left as it is."""

    def __init__(self, files: FilePort, document: str) -> None:
        self._files, self._document = files, document

    def read(self, path: str) -> str | None:
        return self._document if path == store.DOCUMENT else self._files.read(path)

    def write(self, path: str, text: str | None, mode: int = 0o644) -> None:
        if path != store.DOCUMENT:
            self._files.write(path, text, mode)


def compiled(document: Document, order: Order) -> State:
    return compile_state(document, order.facts, order.health, realms=document.backend == "iptables").state


def steering(before: State, after: State, document: Document) -> tuple[Operation, ...]:
    """The changes of the policies' routes between two states, as if all else had stayed."""
    tables = {document.settings.table(document.policy_ident(policy.name)) for policy in document.policies}
    was, will = (
        State(routes=frozenset(route for route in state.routes if route.table in tables), rules=before.rules)
        for state in (before, after)
    )
    return make_plan(will, was, document.settings, NO_FIREWALL, NO_FIREWALL, NO_FIREWALL)
